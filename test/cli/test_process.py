"""`redepth process`: from a recording to files, and on where it was."""

import csv
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from redepth_ros.cli.process import threads
from redepth_ros.cli.process.recording_scale import RecordingScale
from redepth_ros.core.metric.anchors import anchors_from_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.exports import bag as bag_export
from redepth_ros.exports.images import ImagesExporter
from redepth_ros.models import runtimes
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.prompt_depth_anything import PromptDepthAnything
from redepth_ros.nodes.settings import DepthSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
from bags import SECOND, make_image, make_info, make_tf, write_bag
from prompt_networks import save_prompt_network

LOAD = DepthAnything.load.__func__
SMALL = ("--input-size", "70")
REFINE = ("--steps", "2", "--ensemble-size", "1", "--lights-per-step", "1", "--keyframe-min-interval", "0")


@pytest.fixture(autouse=True)
def _loaded_once(monkeypatch, engine):
    monkeypatch.setattr(DepthAnything, "load", lambda name, **options: engine.model)


@pytest.fixture
def images(tmp_path, room):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in (1, 2, 10):
        cv2.imwrite(str(folder / f"{number}.png"), np.roll(room[0], number, axis=1)[..., ::-1])
    return folder


@pytest.fixture
def recorded(tmp_path, room):
    """A bag of six frames: camera, calibration, registered depth, tf."""
    image, depth = room
    height, width = image.shape[:2]

    def messages():
        yield "/tf_static", SECOND, make_tf(("base", "cam", 0, (0, 0, 1), (-0.5, 0.5, -0.5, 0.5)))
        for number in range(6):
            stamp = SECOND + number * SECOND // 10
            yield "/tf", stamp, make_tf(("odom", "base", stamp, (number, 0, 0), (0, 0, 0, 1)))
            millimetres = (1000 * np.roll(depth, number, axis=1)).astype(np.uint16)
            yield "/cam/depth", stamp + 1, make_image(millimetres, "16UC1", stamp, "cam")
            yield "/cam/camera_info", stamp + 2, make_info(height, width, stamp, "cam", 0.8 * width)
            yield "/cam/image", stamp + 3, make_image(np.roll(image, number, axis=1), "rgb8", stamp, "cam")

    return write_bag(tmp_path / "bag", messages(), plugin="mcap")


def table(out):
    with (out / "frames.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_folder_becomes_depth_in_natural_order(redepth_tiny, images, tmp_path):
    out = tmp_path / "out"
    called = redepth_tiny("process", images, out, *SMALL)
    assert called.status == 0, called.err
    assert "the embedded network" in called.out
    assert [row["name"] for row in table(out)] == ["1", "2", "10"]
    stored = cv2.imread(str(out / "images" / "depth" / "2.png"), cv2.IMREAD_UNCHANGED)
    assert (stored.dtype, stored.shape) == (np.uint16, (240, 320))
    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == 3
    assert report["versions"]["torch"]
    assert len(report["model_hash"]) == 16
    assert json.loads((out / "images" / "intrinsics.json").read_text())["unit"].startswith("an unknown unit")


def test_a_bag_becomes_a_bag_in_metres(redepth_tiny, recorded, tmp_path, room):
    out = tmp_path / "out"
    called = redepth_tiny("process", recorded, out, "--format", "bag,tum,nerfstudio,ply", "--max-depth", "20")
    assert called.status == 0, called.err
    rows = table(out)
    assert len(rows) == 6
    assert float(rows[5]["fx"]) == pytest.approx(256.0)
    assert (out / "bag" / "metadata.yaml").is_file()
    assert (out / "tum" / "groundtruth.txt").read_text().splitlines()[2].startswith("1.100000 1.0000000")
    assert len(json.loads((out / "nerfstudio" / "transforms.json").read_text())["frames"]) == 6
    stored = cv2.imread(str(out / "tum" / "depth" / "1.000000.png"), cv2.IMREAD_UNCHANGED) / 5000
    error = np.abs(stored / room[1] - 1.0)[(stored > 0) & (room[1] < 15)]
    assert np.median(error) < 0.3


def test_a_second_call_goes_on_and_does_not_repeat(redepth_tiny, images, tmp_path, monkeypatch):
    out, written, write = tmp_path / "out", [], ImagesExporter.write
    monkeypatch.setattr(
        ImagesExporter, "write", lambda self, frame: (written.append(frame.name), write(self, frame))
    )
    assert redepth_tiny("process", images, out, *SMALL, "--end", "0.15").status == 0
    assert redepth_tiny("process", images, out, *SMALL, "--end", "0.15").status == 0
    assert written == ["1", "2"]
    assert "of which 2 are done" in redepth_tiny("process", images, out, *SMALL, "--plan").out
    other = redepth_tiny("process", images, out, *SMALL, "--max-depth", "5")
    assert other.status == 1
    assert "other settings (end: '0.15', now 'inf'; max_depth: not given, now '5.0')" in other.err
    assert redepth_tiny("process", images, out, *SMALL, "--overwrite").status == 0
    assert written == ["1", "2", "1", "2", "10"]


def test_an_interrupted_call_goes_on_with_the_same_result(redepth_tiny, recorded, tmp_path, monkeypatch):
    command = (
        "--format",
        "images,bag",
        "--keyframes",
        "interval",
        "--keyframe-interval",
        "0.2",
        *SMALL,
        *REFINE,
    )
    assert redepth_tiny("process", recorded, tmp_path / "whole", *command).status == 0
    write = ImagesExporter.write

    def interrupt(self, frame):
        write(self, frame)
        if frame.index == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(ImagesExporter, "write", interrupt)
    called = redepth_tiny("process", recorded, tmp_path / "parts", *command)
    assert called.status == 130
    assert "ends after the frame at work" in called.out
    monkeypatch.setattr(ImagesExporter, "write", write)
    assert redepth_tiny("process", recorded, tmp_path / "parts", *command).status == 0
    whole, parts = (table(tmp_path / name) for name in ("whole", "parts"))
    for first, second in zip(whole, parts, strict=True):
        for name in (
            "stamp",
            "scale",
            "shift",
            "scale_stddev",
            "anchors",
            "median_depth",
            "keyframe",
            "outcome",
        ):
            assert first[name] == second[name], (first["name"], name)
    for path in (tmp_path / "whole" / "images").rglob("*.png"):
        other = tmp_path / "parts" / path.relative_to(tmp_path / "whole")
        assert other.read_bytes() == path.read_bytes(), path
    counts = [
        sum(1 for _ in read_topic(tmp_path / name / "bag", "/depth/image")) for name in ("whole", "parts")
    ]
    assert counts == [6, 6]
    assert sum(row["outcome"] == "" for row in whole) == 3


def read_topic(folder, topic):
    from rosbags.highlevel import AnyReader

    with AnyReader([folder]) as reader:
        yield from reader.messages([one for one in reader.connections if one.topic == topic])


def test_damaged_frames_are_counted_and_the_others_are_done(redepth_tiny, images, tmp_path):
    (images / "2.png").write_bytes((images / "2.png").read_bytes()[:5000])
    out = tmp_path / "out"
    called = redepth_tiny("process", images, out, *SMALL, "--format", "images,html")
    assert called.status == 1
    assert "1 frames without depth" in called.err
    assert "2.png" in called.err
    assert [bool(row["failure"]) for row in table(out)] == [False, True, False]
    assert (out / "images" / "depth" / "10.png").is_file()
    page = (out / "html" / "index.html").read_text()
    assert "1 without depth" in page
    assert '<th scope="row">2</th>' in page
    assert page.count('"limits": [') == 2


def test_a_network_whose_output_is_nan_is_a_failure_with_the_remedy(
    redepth_tiny, images, tmp_path, engine, monkeypatch
):
    """Half precision may overflow."""
    predict = engine.model.predict_frame

    def overflow(image, input_size=0):
        prediction = predict(image, input_size)
        return dataclasses.replace(prediction, output=prediction.output * np.nan)

    monkeypatch.setattr(engine.model, "predict_frame", overflow)
    monkeypatch.setattr(engine.model, "dtype", torch.float16)
    out = tmp_path / "out"
    called = redepth_tiny("process", images, out, *SMALL)
    assert called.status == 1
    assert "values overflow in float16: set precision to float32" in called.err
    assert all("at 100 % of the pixels" in row["failure"] for row in table(out))


def test_a_full_disk_keeps_what_was_done(redepth_tiny, images, tmp_path, monkeypatch):
    out, write = tmp_path / "out", Path.write_bytes

    def fill(self, data):
        if self.name == "2.png":
            raise OSError(28, "No space left on device")
        return write(self, data)

    monkeypatch.setattr(Path, "write_bytes", fill)
    called = redepth_tiny("process", images, out, *SMALL)
    assert called.status == 1
    assert "No space left on device" in called.err
    monkeypatch.setattr(Path, "write_bytes", write)
    assert redepth_tiny("process", images, out, *SMALL).status == 0
    assert len(table(out)) == 3


def test_outputs_are_checked_before_the_work(redepth_tiny, images, tmp_path):
    (tmp_path / "file").write_text("")
    called = redepth_tiny("process", images, tmp_path / "file")
    assert called.status == 1
    assert "is a file" in called.err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    called = redepth_tiny("process", images, tmp_path / "other")
    assert "is not empty (thesis.tex" in called.err
    assert redepth_tiny("process", images, tmp_path / "other", "--overwrite", *SMALL).status == 0
    assert (tmp_path / "other" / "thesis.tex").exists()


def test_what_others_made_is_never_removed(redepth_tiny, images, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    images.rename(place / "images")
    called = redepth_tiny("process", place / "images", place, "--overwrite", *SMALL)
    assert called.status == 1
    assert "lies where results are written" in called.err
    (place / "tum").mkdir()
    called = redepth_tiny("process", place / "images" / "1.png", place / "tum" / "..", "--overwrite", *SMALL)
    assert called.status == 1
    called = redepth_tiny("process", *(place / "images").iterdir(), tmp_path / "o", *SMALL)
    assert called.status == 0, called.err
    (tmp_path / "p" / "tum").mkdir(parents=True)
    called = redepth_tiny("process", place / "images", tmp_path / "p", "--overwrite", *SMALL)
    assert "was not made by redepth process" in called.err
    assert len(list((place / "images").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "exr"], "formats are"),
        (["--format", "nerfstudio"], "needs poses"),
        (["--every", "0"], "every is 0"),
        (["--topic", "/image"], "--topic: for bags only"),
        (["--intrinsics", "1,2,3"], "fx,fy,cx,cy"),
        (["--intrinsics", "300,300,900,120"], "outside of the image"),
        (["--camera-info", "missing.yaml"], "can't be read"),
        (["--colmap", "missing"], "no COLMAP model"),
        (["--anchors", "points"], "for bags only"),
        (["--anchors", "height"], "option --camera-height"),
        (["--anchors", "missing"], "folder with measured depth"),
        (["--min-depth", "5", "--max-depth", "4"], "--min-depth"),
    ],
)
def test_options_that_do_not_fit_are_named(redepth_tiny, images, tmp_path, options, message):
    called = redepth_tiny("process", images, tmp_path / "out", *options)
    assert called.status == 1
    assert message in called.err
    assert not (tmp_path / "out").exists()


def test_the_plan_says_what_and_how_long_and_writes_nothing(redepth_tiny, recorded, tmp_path):
    out = tmp_path / "out"
    called = redepth_tiny("process", recorded, out, "--plan", "--keyframes", "all", *SMALL, *REFINE)
    assert called.status == 0, called.err
    for text in (
        "/cam/image (rgb8), 6 messages",
        "/cam/camera_info, by its name",
        "/cam/depth, the only one",
    ):
        assert text in called.out
    assert "10 Hz" in called.out
    assert "frames to process 6" in called.out
    assert "for 6 keyframes" in called.out
    assert not out.exists()


def test_calibrations_beside_the_input_are_used(redepth_tiny, images, tmp_path):
    (tmp_path / "camera.yaml").write_text(
        "image_width: 640\nimage_height: 480\ncamera_name: x\n"
        "camera_matrix: {rows: 3, cols: 3, data: [500, 0, 320, 0, 500, 240, 0, 0, 1]}\n"
    )
    out = tmp_path / "out"
    called = redepth_tiny(
        "process", images, out, *SMALL, "--camera-info", tmp_path / "camera.yaml", "--end", "0.05"
    )
    assert called.status == 0, called.err
    # At half of the size of the calibration.
    assert [float(table(out)[0][name]) for name in ("fx", "cx")] == [250.0, 159.75]


def test_the_calibration_gives_metres_to_a_network_that_needs_it(
    redepth_tiny, images, tmp_path, engine, monkeypatch
):
    first = (*SMALL, "--end", "0.05")
    assert redepth_tiny("process", images, tmp_path / "relative", *first).status == 0
    monkeypatch.setattr(engine.model, "scale_source", "calibration", raising=False)
    monkeypatch.setattr(
        engine.model, "known_scale", lambda _, camera: Scale(camera.fx / 300.0) if camera else None
    )
    calibrated = (*first, "--intrinsics", "250,250,160,120")
    assert redepth_tiny("process", images, tmp_path / "metres", *calibrated, "--scale", 2).status == 0
    relative, metres = (table(tmp_path / name)[0] for name in ("relative", "metres"))
    width = engine.model.preprocess(np.zeros((240, 320, 3), np.uint8), 70).shape[-1]
    assert float(metres["scale"]) == pytest.approx(2.0 * 250.0 * width / 320.0 / 300.0)
    ratio = float(metres["median_depth"]) / float(relative["median_depth"])
    assert ratio == pytest.approx(float(metres["scale"]), rel=1e-2)
    plan = redepth_tiny("process", images, tmp_path / "plan", *calibrated, "--plan")
    assert ", in m " in plan.out
    uncalibrated = ("process", images, tmp_path / "plan", *first, "--plan")
    assert ", in an unknown unit" in redepth_tiny(*uncalibrated).out
    monkeypatch.setattr(engine.model, "scale_source", "image", raising=False)
    assert ", in m " in redepth_tiny(*uncalibrated).out


def write_colmap(folder, names, points):
    """A COLMAP model of one camera that stands still at the origin and sees all points."""
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("# comment\n1 PINHOLE 320 240 256 256 160 120\n")
    seen = " ".join(f"1.0 1.0 {number}" for number in range(1, len(points) + 1))
    lines = [f"{number} 1 0 0 0 0 0 0 1 {name}\n{seen}" for number, name in enumerate(names, 1)]
    (folder / "images.txt").write_text("# comment\n" + "\n".join(lines) + "\n")
    lines = [f"{number} {x} {y} {z} 0 0 0 0.5 1 0" for number, (x, y, z) in enumerate(points, 1)]
    (folder / "points3D.txt").write_text("\n".join(lines) + "\n")


def test_a_colmap_model_gives_camera_pose_and_scale(redepth_tiny, images, room, tmp_path):
    depth = room[1]
    rows, columns = (one.ravel() for one in np.mgrid[10:230:9, 10:310:9])
    z = depth[rows, columns]
    points = np.stack(((columns - 159.5) / 256 * z, (rows - 119.5) / 256 * z, z), axis=1)
    write_colmap(tmp_path / "sparse", ["1.png", "2.png"], points[z < 15])
    out = tmp_path / "out"
    called = redepth_tiny(
        "process", images, out, "--colmap", tmp_path / "sparse", "--format", "splat,nerfstudio"
    )
    assert called.status == 0, called.err
    rows = table(out)
    assert int(rows[0]["anchors"]) > 100
    assert rows[2]["warnings"].startswith("not in the COLMAP model")
    assert len(json.loads((out / "nerfstudio" / "transforms.json").read_text())["frames"]) == 2
    params = json.loads((out / "splat" / "sparse" / "0" / "depth_params.json").read_text())
    stored = cv2.imread(str(out / "splat" / "depths" / "1.png"), -1) / 2**16
    inverse = stored * params["1"]["scale"] + params["1"]["offset"]
    assert np.median(np.abs(inverse * depth - 1.0)) < 0.3


def test_awkward_paths(redepth_tiny, images, tmp_path):
    folder = tmp_path / "a $HOME #1: ünï"
    images.rename(folder)
    (folder / "1.png").rename(folder / "x $y #z: ü.png")
    called = redepth_tiny("process", folder, tmp_path / "out $1", *SMALL, "--format", "images,tum,html")
    assert called.status == 0, called.err
    assert (tmp_path / "out $1" / "images" / "depth" / "x $y #z: ü.png").is_file()


def test_the_tracker_replays_to_the_same_state():
    rng = np.random.default_rng(0)
    disparities = [torch.from_numpy(rng.uniform(0.5, 2.0, (20, 30)).astype(np.float32)) for _ in range(6)]
    settings = DepthSettings()
    tracker, replayed = (RecordingScale(settings, False, "anchors") for _ in range(2))
    scales = []
    for number, disparity in enumerate(disparities):
        depth = 3.0 / (disparity.numpy() + 0.2) * (1.0 + 0.01 * rng.standard_normal(disparity.shape))
        anchors = anchors_from_depth(depth) if number != 3 else None
        tracked = tracker.update(0.1 * number, disparity, anchors, None)
        scales.append(tracked)
        assert tracked.scale.scale == pytest.approx(3.0, rel=0.1)
        if number < 5:
            replayed.replay(0.1 * number, tracked.measured)
    last = replayed.update(0.5, disparity, anchors, None)
    assert last.scale == scales[-1].scale
    assert last.residual_stddev == scales[-1].residual_stddev


def test_anchors_are_the_prompt_of_a_network_that_takes_one(redepth, images, room, tmp_path, monkeypatch):
    monkeypatch.setattr(PromptDepthAnything, "load", classmethod(LOAD))
    prompt_network = save_prompt_network(tmp_path / "model")
    (tmp_path / "depth").mkdir()
    millimetres = (1000 * np.roll(room[1], 10, axis=1)).clip(0, 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth" / "10.png"), millimetres)
    out = tmp_path / "out"
    options = (*SMALL, "--model", prompt_network, "--anchors", tmp_path / "depth", "--no-fuse-anchors")
    called = redepth("process", images, out, *options)
    assert called.status == 0, called.err
    rows = table(out)
    assert [row["scale"] != "" for row in rows] == [False, False, True]
    assert [float(row["valid"]) > 0.5 for row in rows] == [False, False, True]
    assert "the network needs a prompt, and the frame has no anchors" in rows[0]["warnings"]
    measured = anchors_from_depth(np.where(millimetres, millimetres * 1e-3, np.nan))
    model = load_depth_network(prompt_network, device="cpu").with_prompt(measured)
    image = cv2.imread(str(images / "10.png"))[..., ::-1]
    expected = float(rows[2]["scale"]) * model.predict(image, 70).median()
    assert float(rows[2]["median_depth"]) == pytest.approx(float(expected), rel=0.02)


def test_a_frame_without_anchors_has_the_scale_that_the_network_knows():
    tracker, disparity = RecordingScale(DepthSettings(), False, "anchors"), torch.ones(20, 30)
    assert tracker.update(0.0, disparity, None, None).scale is None
    assert tracker.update(0.1, disparity, None, None, Scale(0.5)).scale == Scale(0.5)


def test_frames_before_the_first_anchors_have_its_scale(redepth_tiny, images, room, tmp_path):
    (tmp_path / "depth").mkdir()
    millimetres = (1000 * np.roll(room[1], 10, axis=1)).clip(0, 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "depth" / "10.png"), millimetres)
    out = tmp_path / "out"
    called = redepth_tiny("process", images, out, "--anchors", tmp_path / "depth")
    assert called.status == 0, called.err
    rows = table(out)
    assert [int(row["anchors"]) > 0 for row in rows] == [False, False, True]
    assert rows[0]["scale"] == rows[1]["scale"] != ""
    assert float(rows[0]["valid"]) > 0.5


def test_parts_of_a_bag_are_the_unit_of_the_journal(redepth_tiny, recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(bag_export, "PART_FRAMES", 2)
    # The threads overlap: a part may be larger by the frames that wait.
    monkeypatch.setattr(threads, "QUEUE_SIZE", 1)
    out = tmp_path / "out"
    assert redepth_tiny("process", recorded, out, *SMALL).status == 0
    assert len(list((out / "bag").glob("*.mcap"))) >= 2
    assert sum(1 for _ in read_topic(out / "bag", "/cam/image")) == 6
    assert sum(1 for _ in read_topic(out / "bag", "/depth/image")) == 6


def test_a_runtime_that_is_not_installed_is_refused_with_the_command(redepth, images, tmp_path, monkeypatch):
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    called = redepth("process", images, tmp_path / "out", *SMALL, "--runtime", "openvino")
    assert called.status
    assert "runtime is 'openvino', but openvino is not installed: pip install openvino" in called.err
    assert not (tmp_path / "out").exists()


def test_the_depth_of_a_runtime_is_that_of_torch(redepth, images, tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="openvino is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for runtime in ("torch", "openvino"):
        called = redepth("process", images, tmp_path / runtime, *SMALL, "--runtime", runtime, "--float32")
        assert called.status == 0, called.err
        assert ("compiling the network for" in called.out) == (runtime == "openvino")
    found, expected = (
        np.load(tmp_path / one / "images" / "depth" / "1.npz") for one in ("openvino", "torch")
    )
    for name in expected.files:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3)
    again = redepth("process", images, tmp_path / "torch", *SMALL, "--runtime", "openvino", "--float32")
    assert "holds results of other settings (runtime: 'torch', now 'openvino')" in again.err
