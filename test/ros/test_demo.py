"""`redepth demo` as a person calls it."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")


def run_demo(*arguments):
    command = [sys.executable, "-m", "redepth_ros.cli.main", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ)


def test_it_leaves_pictures_and_a_table(tmp_path):
    for seconds in (20, 120):  # on a busy machine the first may be too short for a keyframe
        said = run_demo("--seconds", seconds, "--out", tmp_path / "out")
        assert said.returncode == 0, said.stdout + said.stderr
        pictures = sorted((tmp_path / "out").glob("scene_*.png"))
        if len(pictures) >= 3 and list((tmp_path / "out").glob("keyframe_*.png")):
            break
    assert len(pictures) >= 3
    for path in pictures:
        picture = cv2.imread(str(path))
        assert picture.shape[1] > 2 * picture.shape[0]  # three panels side by side
        thirds = np.array_split(picture, 3, axis=1)
        assert all(third.std() > 10 for third in thirds), f"{path}: an empty panel"
    for path in (tmp_path / "out").glob("keyframe_*.png"):
        assert cv2.imread(str(path)).std() > 10
    assert len(list((tmp_path / "out").glob("keyframe_*.png"))) >= 1
    for row in (
        "rendered keyframe",
        "outcomes",
        "images in",
        "depth out",
        "latency, median",
        "tiny on ",
        "not metres",
    ):
        assert row in said.stdout


def test_a_path_that_is_none_is_named(tmp_path):
    said = run_demo("/no/such/path", "--out", tmp_path)
    assert said.returncode == 1
    assert "redepth: path is '/no/such/path', and there is nothing there" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_model_that_is_none_is_named(tmp_path):
    said = run_demo("--model", "/no/such/model", "--out", tmp_path)
    assert said.returncode == 1
    assert "'/no/such/model' is not a folder" in said.stderr
    assert "Traceback" not in said.stderr
