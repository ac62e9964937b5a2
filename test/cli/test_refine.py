"""`redepth refine` as a user calls it, in a process of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from training.scenes.relief import draw_relief
from training.scenes.textures import atlas

COMMAND = [sys.executable, "-m", "redepth_ros.cli.main", "refine"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "relief.png"
    image = draw_relief(61_000_000, atlas(1), side=80).image.permute(1, 2, 0).numpy()
    cv2.imwrite(str(path), (image[:, :, ::-1] * 255.0).round().astype(np.uint8))
    return path


def call(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_everything_is_written(picture, tmp_path):
    extra = ("--prompt", "a relief", "--focal", 90, "--device", "cpu")
    done = call(picture, "--out", tmp_path, "--steps", 3, "--members", 2, "--seed", 7, *extra)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "relief"
    assert {path.name for path in folder.iterdir()} == {
        "depth.png", "normals.png", "color.png", "sheet.png", "losses.png", "maps.npz", "report.json",
    }  # fmt: skip
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "REFINED"
    assert report["settings"]["seed"] == 7
    assert report["settings"]["steps"] == report["steps"] == 3
    assert report["size"] == [80, 80]
    assert (report["prompt"], report["device"], report["dtype"]) == ("a relief", "cpu", "torch.float32")
    assert report["intrinsics"]["fx"] == 90.0
    with np.load(folder / "maps.npz") as maps:
        shapes = {name: maps[name].shape for name in maps}
        depth = maps["depth"]
        assert np.isfinite(depth).all()
        assert maps["stddev"].max() > 0
        np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=0), 1.0, atol=1e-4)
    assert shapes == {
        "depth": (80, 80), "fast_depth": (80, 80), "stddev": (80, 80),
        "normals": (3, 80, 80), "fast_normals": (3, 80, 80),
    }  # fmt: skip
    stored = cv2.imread(str(folder / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 1000.0, depth, atol=6e-4)
    for name in ("normals.png", "color.png"):
        assert cv2.imread(str(folder / name)).shape == (80, 80, 3)


def test_pictures_of_the_same_name_do_not_overwrite_each_other(picture, tmp_path):
    twin = tmp_path / "other" / "relief.png"
    twin.parent.mkdir()
    twin.write_bytes(picture.read_bytes())
    done = call(picture, twin, "--out", tmp_path / "out", "--steps", 1, "--members", 1)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"relief-1", "relief-2"}


def test_a_picture_that_can_not_be_used_is_left_out(picture, tmp_path):
    done = call(__file__, picture, "/nowhere.png", "--out", tmp_path, "--steps", 1, "--members", 1)
    assert done.returncode == 1
    assert "test_refine.py is left out" in done.stderr
    assert "there is no picture '/nowhere.png'" in done.stderr
    assert (tmp_path / "relief" / "report.json").is_file()


def test_ctrl_c_writes_the_best_so_far(picture, tmp_path):
    command = [*COMMAND, picture, picture, "--out", tmp_path, "--steps", "100000", "--members", "1"]
    log = tmp_path / "log"
    # For rich this makes a file a terminal, whose progress is shown as it comes.
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}

    def shows_a_step():
        return re.search(r"step \d+/100000", log.read_text())

    def hear_interrupts():  # which a shell turns off in what it runs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {"env": environment, "preexec_fn": hear_interrupts}
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, **options) as child:
        try:
            end = time.monotonic() + 300
            while not shows_a_step() and child.poll() is None and time.monotonic() < end:
                time.sleep(0.1)
            assert shows_a_step(), log.read_text()
            child.send_signal(signal.SIGINT)
            child.wait(300)
        finally:
            child.kill()
    assert child.returncode == 130, log.read_text()
    report = json.loads((tmp_path / "relief-1" / "report.json").read_text())
    assert report["outcome"] == "STOPPED_EARLY"
    assert not (tmp_path / "relief-2").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["/nowhere.png"], "there is no picture '/nowhere.png'"),
        ([__file__], "not a picture that OpenCV can read"),
        (["PICTURE", "--steps", "0"], "steps is 0; it must be from 1"),
        (["PICTURE", "--model", "/nowhere"], "model '/nowhere' is not a folder"),
        (["PICTURE", "--prior", "/nowhere"], "prior '/nowhere' is not a folder"),
        (["PICTURE", "--device", "cuda:9"], "device is 'cuda:9'"),
    ],
)
def test_bad_input_is_said_in_one_line(arguments, words, picture, tmp_path):
    given = [picture if word == "PICTURE" else word for word in arguments]
    done = call(*given, "--out", tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
