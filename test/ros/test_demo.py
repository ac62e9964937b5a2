"""`redepth demo` as a user calls it."""

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

ROWS = (
    "keyframes",
    "AbsRel",
    "outcomes",
    "images in",
    "depth out",
    "latency, median",
    "tiny on ",
    "not metres",
    "Motorcycle",
    ", anchored",
)


def run_demo(*arguments):
    command = [sys.executable, "-m", "redepth_ros.cli.main", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ)


def test_the_demo_leaves_figures_and_prints_a_table(ros, tmp_path):
    for seconds in (12, 120):  # on a busy machine the first may be too short for a keyframe
        done = run_demo("--seconds", seconds, "--out", tmp_path / "out")
        assert done.returncode == 0, done.stdout + done.stderr
        scenes = sorted((tmp_path / "out").glob("scene_*.png"))
        keyframes = list((tmp_path / "out").glob("keyframe_*.png"))
        if len(scenes) >= 3 and keyframes:
            break
    assert len(scenes) >= 3
    for path in scenes:
        figure = cv2.imread(str(path))
        assert figure.shape[1] > 2 * figure.shape[0]  # three panels side by side
        assert all(panel.std() > 10 for panel in np.array_split(figure, 3, axis=1)), f"{path}: an empty panel"
    assert keyframes
    assert all(cv2.imread(str(path)).std() > 10 for path in keyframes)
    for row in ROWS:
        assert row in done.stdout


def test_a_model_that_does_not_exist_is_named(ros, tmp_path):
    done = run_demo("--model", "/no/such/model", "--out", tmp_path)
    assert done.returncode == 1
    assert "'/no/such/model' is not a folder" in done.stderr
    assert "Traceback" not in done.stderr
