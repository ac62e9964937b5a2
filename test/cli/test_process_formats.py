"""A bag with two cameras, a lidar, tf and odometry becomes every format; independent readers open each."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from redepth_ros.models.depth_anything import DepthAnything

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
from bags import SECOND, make_image, make_info, make_odometry, make_points, make_tf, write_bag

PERIOD, FRAMES, EVERY = SECOND // 10, 100, 10
FORMATS = ["bag", "images", "tum", "nerfstudio", "ply", "html", *(["rrd"] if find_spec("rerun") else [])]
OPTICAL = (-0.5, 0.5, -0.5, 0.5)
"""Rotation from a body frame (REP 103) to the optical frame of its camera."""


@pytest.fixture(scope="module")
def points(room):
    """Every 97th pixel of the front camera, in the lidar's frame: (N, 3) metres."""
    depth = room[1]
    height, width = depth.shape
    rows, columns = np.divmod(np.arange(0, depth.size, 97), width)
    z = depth[rows, columns]
    x, y = (columns - 0.5 * (width - 1)) / (0.8 * width) * z, (rows - 0.5 * (height - 1)) / (0.8 * width) * z
    return np.stack((z, -x, -y), axis=1)[np.isfinite(z)]  # forward, left, up


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, room, points):
    image = room[0]
    height, width = image.shape[:2]

    def messages():
        mounts = [("base", frame, 0, (0, 0, 0), OPTICAL) for frame in ("front", "rear")]
        yield "/tf_static", SECOND, make_tf(*mounts, ("base", "lidar", 0, (0, 0, 0), (0, 0, 0, 1)))
        for number in range(FRAMES):
            stamp, x = SECOND + number * PERIOD, 0.01 * number
            yield "/tf", stamp, make_tf(("odom", "base", stamp, (x, 0, 0), (0, 0, 0, 1)))
            yield "/odom", stamp, make_odometry(stamp, (x, 0.0, 0.0))
            yield "/lidar/points", stamp, make_points(points, stamp)
            for camera, shown in (("front", image), ("rear", image[:, ::-1])):
                info = make_info(height, width, stamp, camera, 0.8 * width)
                yield f"/{camera}/camera_info", stamp, info
                yield f"/{camera}/image_raw", stamp, make_image(shown, "rgb8", stamp, camera)

    return write_bag(tmp_path_factory.mktemp("recorded") / "bag", messages(), plugin="mcap")


@pytest.fixture(scope="module")
def out(recorded, tmp_path_factory, engine):
    """The folder of all formats."""
    from redepth_ros.cli.main import main

    out = tmp_path_factory.mktemp("processed") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DepthAnything, "load", lambda name, **options: engine.model)
        networks = ("--model", "tiny", "--prior", "tiny", "--device", "cpu", "--input-size", "70")
        sources = ("--topic", "/front/image_raw", "--anchors", "/lidar/points", "--poses", "odom")
        amount = ("--every", str(EVERY), "--format", ",".join(FORMATS))
        main(["process", str(recorded), str(out), *networks, *sources, *amount])
    return out


def error_of(depth, truth):
    """Median relative error at pixels of both."""
    both = np.isfinite(depth) & (depth > 0) & np.isfinite(truth)
    return np.median(np.abs(depth[both] / truth[both] - 1.0))


def test_the_bag_keeps_all_topics_and_adds_depth(out, recorded):
    counts = {}
    for path in (recorded, out / "bag"):
        with Reader(path) as reader:
            counts[path] = {one.topic: one.msgcount for one in reader.connections}
    added = dict.fromkeys(("/depth/image", "/depth/camera_info", "/depth/stddev"), FRAMES // EVERY)
    assert {topic: counts[out / "bag"].get(topic) for topic in counts[recorded]} == counts[recorded]
    assert {topic: counts[out / "bag"].get(topic) for topic in added} == added


def test_16_bit_images_hold_millimetres(out, room):
    files = sorted((out / "images" / "depth").glob("*.png"))
    assert len(files) == FRAMES // EVERY
    for file in files:
        assert error_of(cv2.imread(str(file), cv2.IMREAD_UNCHANGED) / 1000.0, room[1]) < 0.05


def test_tum_lists_images_depth_and_poses(out, room):
    lines = (out / "tum" / "associations.txt").read_text().splitlines()
    pairs = [line.split() for line in lines if not line.startswith("#")]
    assert len(pairs) == FRAMES // EVERY
    depth = cv2.imread(str(out / "tum" / pairs[0][3]), cv2.IMREAD_UNCHANGED) / 5000.0
    assert error_of(depth, room[1]) < 0.05
    poses = np.loadtxt(out / "tum" / "groundtruth.txt")
    np.testing.assert_allclose(np.diff(poses[:, 1]), 0.01 * EVERY, atol=1e-5)


def test_nerfstudio_has_poses_and_depth_in_the_named_unit(out, room):
    transforms = json.loads((out / "nerfstudio" / "transforms.json").read_text())
    frames = transforms["frames"]
    assert len(frames) == FRAMES // EVERY
    unit = transforms.get("depth_unit_scale_factor", 1e-3)
    depth = cv2.imread(str(out / "nerfstudio" / frames[0]["depth_file_path"]), cv2.IMREAD_UNCHANGED) * unit
    assert error_of(depth, room[1]) < 0.05
    first, last = (np.array(frames[index]["transform_matrix"])[:3, 3] for index in (0, -1))
    assert np.linalg.norm(last - first) == pytest.approx(0.01 * (FRAMES - EVERY), abs=1e-4)


def test_clouds_are_read_by_open3d(out):
    open3d = pytest.importorskip("open3d", reason="open3d is not installed")
    files = sorted(out.glob("ply/**/*.ply"))
    assert len(files) == FRAMES // EVERY
    assert len(open3d.io.read_point_cloud(str(files[0])).points) > 1000


def test_the_recording_of_rerun_is_verified_by_its_own_program(out):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    (file,) = out.glob("**/*.rrd")
    for action, words in (("verify", ""), ("print", "depth")):
        command = [sys.executable, "-m", "rerun", "rrd", action, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        assert words in done.stdout
