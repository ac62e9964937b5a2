"""Calibration files and COLMAP models."""

import struct

import numpy as np
import pytest

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.calibration import camera_from_yaml, read_colmap

SIZE = "image_width: 640\nimage_height: 480\n"
K = "camera_matrix: {data: [500, 0, 320, 0, 510, 240, 0, 0, 1]}\n"
ZEROS = f"projection_matrix: {{data: {[0] * 12}}}\n"


def camera_of(tmp_path, text):
    (tmp_path / "camera.yaml").write_text(text)
    return camera_from_yaml(tmp_path / "camera.yaml")


def test_a_projection_matrix_of_zeros_gives_way_to_the_camera_matrix(tmp_path):
    assert camera_of(tmp_path, SIZE + ZEROS + K) == PinholeCamera(500.0, 510.0, 320.0, 240.0, 640, 480)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SIZE + ZEROS, "focal length fx is 0.0"),
        ("image_width: wide\nimage_height: 480\n" + K, "it has the size 'wide' x 480 and a matrix"),
        ("image_width: .inf\nimage_height: 480\n" + K, "it has the size inf x 480 and a matrix"),
        (SIZE + K.replace("500", "far"), "it has the size 640 x 480 and no matrix"),
        (SIZE + K.replace("320", ".nan"), "cx of the principal point is nan"),
        ("a: !!int ''", "can't be read"),
        ("a: !!bool maybe", "can't be read"),
        ("a: !!timestamp never", "can't be read"),
        ("[" * 3000, "can't be read"),
    ],
)
def test_calibrations_that_mean_nothing_are_refused(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        camera_of(tmp_path, text)


def write_colmap(folder, quaternion=(1.0, 0.0, 0.0, 0.0), x=0.5, observations=1):
    """A model of one image that sees one point."""
    camera = struct.pack("<QiiQQ4d", 1, 1, 1, 8, 6, 40.0, 42.0, 4.0, 3.0)
    image = struct.pack("<Qi7di", 1, 1, *quaternion, x, 0.0, 0.0, 1) + b"one.png\0"
    image += struct.pack("<Qddq", observations, 1.0, 1.0, 7)
    point = struct.pack("<QQ3d", 1, 7, 0.1, 0.2, 2.0) + bytes(11) + struct.pack("<Q", 0)
    for name, data in (("cameras", camera), ("images", image), ("points3D", point)):
        (folder / f"{name}.bin").write_bytes(data)


def test_a_binary_colmap_model_is_read(tmp_path):
    write_colmap(tmp_path)
    view = read_colmap(tmp_path).views["one.png"]
    assert view.camera == PinholeCamera(40.0, 42.0, 3.5, 2.5, 8, 6)
    np.testing.assert_array_equal(view.pose[:3, 3], (-0.5, 0.0, 0.0))
    np.testing.assert_array_equal(view.points, [(0.1, 0.2, 2.0)])


@pytest.mark.parametrize(
    "damage",
    [
        {"quaternion": (0.0, 0.0, 0.0, 0.0)},
        {"quaternion": (float("nan"), 0.0, 0.0, 1.0)},
        {"x": float("inf")},
        {"observations": 2**62},  # Python can't take memory for so many
        {"observations": 2**40},
    ],
)
def test_a_damaged_colmap_model_is_refused(tmp_path, damage):
    write_colmap(tmp_path, **damage)
    with pytest.raises(ConfigError, match=r"COLMAP model .* can't be read"):
        read_colmap(tmp_path)
