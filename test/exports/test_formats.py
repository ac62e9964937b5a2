"""Formats of files: what other tools will read."""

import dataclasses
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from export_samples import HEIGHT, WIDTH, make_frame, make_record, make_session

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.files import ExportError, to_uint16, write_image, write_table
from redepth_ros.exports.frames import FrameRecord
from redepth_ros.exports.images import ImagesExporter
from redepth_ros.exports.nerfstudio import NerfstudioExporter
from redepth_ros.exports.ply import PlyExporter
from redepth_ros.exports.rrd import RrdExporter
from redepth_ros.exports.splat import SplatExporter
from redepth_ros.exports.tum import TumExporter, quaternion_from_matrix
from redepth_ros.recordings.transforms import matrix_from_quaternion


def read_png(path):
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image.dtype == np.uint16
    return image


def test_16_bits_hold_what_fits_and_0_otherwise():
    depth = np.array([[1.0, 65.535, 65.536, 0.0, -1.0, np.nan, np.inf, 0.0004]], np.float32)
    assert to_uint16(depth, 1000.0).tolist() == [[1000, 65535, 0, 0, 0, 0, 0, 0]]


def test_images(export):
    out = export(ImagesExporter, float32=True)
    frame = make_frame(0)
    stored = read_png(out / "depth" / "000000.png")
    assert stored[0, 0] == 0
    assert np.allclose(stored[1:], 1000 * frame.depth[1:], atol=0.5)
    assert np.allclose(read_png(out / "refined" / "000001.png")[1:], 2000 * make_frame(1).depth[1:], atol=1)
    assert not (out / "refined" / "000000.png").exists()
    maps = np.load(out / "depth" / "000000.npz")
    assert np.array_equal(maps["depth"], frame.depth, equal_nan=True)
    assert np.array_equal(maps["stddev"], frame.stddev, equal_nan=True)
    intrinsics = json.loads((out / "intrinsics.json").read_text())
    assert intrinsics["unit"] == "m"
    assert intrinsics["camera"] == {"fx": 40.0, "fy": 41.0, "cx": 15.0, "cy": 11.0, "width": 32, "height": 24}


def test_tum(export):
    out = export(TumExporter)
    lines = (out / "associations.txt").read_text().splitlines()
    assert lines[0] == "1.000000 rgb/1.000000.png 1.000000 depth/1.000000.png"
    assert len(lines) == 3
    assert np.allclose(read_png(out / "depth" / "1.200000.png")[1:], 5000 * make_frame(2).depth[1:], atol=0.5)
    # Refined depth takes the place of the fast one.
    assert np.allclose(read_png(out / "depth" / "1.100000.png")[1:], 10_000 * make_frame(1).depth[1:], atol=1)
    colour = cv2.imread(str(out / "rgb" / "1.000000.png"))
    assert colour[0, 0].tolist() == [10, 100, 200]
    for name in ("rgb", "depth"):
        assert (out / f"{name}.txt").read_text().splitlines()[2] == f"1.000000 {name}/1.000000.png"
    pose = (out / "groundtruth.txt").read_text().splitlines()[2].split()
    assert [float(one) for one in pose[:4]] == [1.1, 1.0, 2.0, 3.0]
    assert np.allclose(matrix_from_quaternion(*map(float, pose[4:])), make_frame(1).pose[:3, :3])


@pytest.mark.parametrize("kind", [TumExporter, SplatExporter])
def test_a_frame_without_depth_is_in_no_list(kind, tmp_path):
    exporter, frame = kind(tmp_path, make_session()), make_frame(0)
    exporter.write(frame)
    exporter.finish([make_record(frame), FrameRecord(1, 0, "broken", failure="truncated")], True)
    lists = [path for path in tmp_path.rglob("*") if path.suffix in (".txt", ".json")]
    assert lists
    for path in lists:
        text = path.read_text()
        assert "0.000000" not in text.split()
        assert "broken" not in text


def test_quaternions_of_random_rotations_turn_back():
    rng = np.random.default_rng(0)
    for quaternion in rng.normal(size=(50, 4)):
        matrix = matrix_from_quaternion(*quaternion)
        assert np.allclose(matrix_from_quaternion(*quaternion_from_matrix(matrix)), matrix)


def test_nerfstudio(export):
    out = export(NerfstudioExporter)
    content = json.loads((out / "transforms.json").read_text())
    assert content["depth_unit_scale_factor"] == 1e-3
    frame = content["frames"][2]
    assert (frame["cx"], frame["fl_y"], frame["w"]) == (15.5, 41.0, 32)
    assert (out / frame["file_path"]).is_file()
    assert read_png(out / frame["depth_file_path"])[1, 0] == 3000
    matrix = np.array(frame["transform_matrix"])
    # OpenGL's camera looks along its -z axis, with y up: here along x of the world, with z up.
    assert (-matrix[:3, 2]).tolist() == [1.0, 0.0, 0.0]
    assert matrix[:3, 1].tolist() == [0.0, 0.0, 1.0]
    assert matrix[:3, 3].tolist() == [2.0, 2.0, 3.0]


def test_splat_gives_the_trainer_inverse_depth(export):
    out = export(SplatExporter)
    params = json.loads((out / "sparse" / "0" / "depth_params.json").read_text())
    for index, factor in ((0, 1.0), (1, 2.0)):
        name = f"{index:06d}"
        # As scene/cameras.py and utils/camera_utils.py of the trainer do.
        stored = cv2.imread(str(out / "depths" / f"{name}.png"), -1).astype(np.float32) / float(2**16)
        inverse = stored * params[name]["scale"] + params[name]["offset"]
        assert np.allclose(inverse[1:], 1.0 / (factor * make_frame(index).depth[1:]), rtol=1e-3)


def test_splat_of_unknown_unit_leaves_the_scale_to_the_trainers_script(export):
    out = export(SplatExporter, session=make_session(unit="unknown"))
    assert (out / "depths" / "000000.png").is_file()
    assert not (out / "sparse").exists()


def read_ply(path):
    data = path.read_bytes()
    header, body = data.split(b"end_header\n", 1)
    dtype = np.dtype([(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("r", "g", "b")])
    points = np.frombuffer(body, dtype)
    assert f"element vertex {len(points)}\n".encode() in header
    return points, header.decode()


def test_ply(export):
    out = export(PlyExporter)
    points, header = read_ply(out / "000000.ply")
    assert "points in the world, metres" in header
    assert len(points) == HEIGHT * WIDTH - 1  # one pixel is invalid
    # The first valid pixel is (1, 0): depth along x of the world.
    depth = make_frame(0).depth[0, 1]
    assert points["x"][0] == pytest.approx(depth)
    assert points["y"][0] == pytest.approx(2.0 - (1 - 15.0) / 40.0 * depth)
    assert (points["r"][0], points["g"][0], points["b"][0]) == (200, 100, 10)


def test_ply_without_a_pose_is_in_the_cameras_frame(export):
    out = export(PlyExporter, frames=[make_frame(0, pose=None)])
    points, header = read_ply(out / "000000.ply")
    assert "the camera's optical frame" in header
    assert points["z"][0] == pytest.approx(make_frame(0).depth[0, 1])


@pytest.mark.parametrize(
    ("kind", "lacking"), [(NerfstudioExporter, "has_poses"), (PlyExporter, "has_cameras")]
)
def test_formats_name_what_they_lack(tmp_path, kind, lacking):
    remedy = {"has_poses": "a bag with /tf or odometry", "has_cameras": "--camera-info, --intrinsics"}[
        lacking
    ]
    with pytest.raises(ConfigError, match=f"format {kind.name} needs .* does not have: give {remedy}"):
        kind(tmp_path, make_session(**{lacking: False}))


def test_rrd_names_its_package_or_writes(export, tmp_path):
    try:
        import rerun  # noqa: F401
    except ImportError:
        with pytest.raises(ConfigError, match="pip install rerun-sdk"):
            RrdExporter(tmp_path, make_session())
    else:
        assert (export(RrdExporter) / "0.rrd").stat().st_size > 1000


def read_exr(path):
    """Read an EXR by OpenCV, which keeps its own OpenEXR disabled unless the environment enables it."""
    code = "import sys, cv2, numpy; numpy.save(sys.argv[2], cv2.imread(sys.argv[1], cv2.IMREAD_UNCHANGED))"
    environment = {**os.environ, "OPENCV_IO_ENABLE_OPENEXR": "1"}
    stored = path.with_suffix(".npy")
    subprocess.run([sys.executable, "-c", code, str(path), str(stored)], env=environment, check=True)
    return np.load(stored)


def test_exr_is_read_by_others_bit_for_bit(export):
    openexr = pytest.importorskip("OpenEXR")
    frame = make_frame(0)
    frame = dataclasses.replace(frame, depth=frame.depth[:, ::-1])  # rows that are not contiguous
    out = export(ImagesExporter, frames=[frame, make_frame(1)], exr=True)
    assert not list(out.rglob("*.npz"))
    for path, depth in (("depth/000000.exr", frame.depth), ("refined/000001.exr", 2 * make_frame(1).depth)):
        stored = read_exr(out / path)
        assert stored.dtype == np.float32
        assert stored.tobytes() == depth.tobytes()  # NaN as well
    with openexr.File(str(out / "depth/000001.exr"), separate_channels=True) as file:
        assert set(file.channels()) == {"Y", "stddev"}
        assert np.array_equal(file.channels()["stddev"].pixels, make_frame(1).stddev, equal_nan=True)


def test_exr_names_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(ConfigError, match="--exr needs OpenEXR: pip install OpenEXR"):
        ImagesExporter(tmp_path, make_session(), exr=True)


def test_an_exr_that_cant_be_written_is_named(tmp_path):
    pytest.importorskip("OpenEXR")
    exporter = ImagesExporter(tmp_path, make_session(), exr=True)
    assert exporter.needs_stddev
    (tmp_path / "depth" / "000000.exr").mkdir(parents=True)
    with pytest.raises(ExportError, match=r"000000\.exr' can't be written"):
        exporter.write(make_frame(0))


def test_the_table_has_a_line_for_each_frame(tmp_path):
    records = [
        make_record(make_frame(0)),
        make_record(
            make_frame(1), keyframe=True, outcome="refined", refine_seconds=1.5, warnings=("a", "b,c")
        ),
        FrameRecord(2, 0, "bad", failure="truncated"),
    ]
    write_table(tmp_path / "frames.csv", records)
    lines = (tmp_path / "frames.csv").read_text().splitlines()
    assert lines[0].startswith("index,stamp,name,width,height,fx")
    assert lines[1].startswith("0,1.000000000,000000,32,24,40,41,15,11,1,0,0.1,")
    assert 'refined,1.50,"a; b,c",' in lines[2]
    assert lines[3].endswith(",truncated")


def test_records_survive_the_journal():
    record = make_record(make_frame(3), measured=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0), warnings=("ü: \n",))
    assert FrameRecord.from_json(record.to_json()) == record


def test_what_cant_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="file"):
        write_image(tmp_path / "file" / "image.png", np.zeros((4, 4), np.uint16))
