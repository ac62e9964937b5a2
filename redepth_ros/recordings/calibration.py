"""Calibrations and poses that lie beside a recording: numbers, YAML files, COLMAP models."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError

__all__ = ["ColmapModel", "ColmapView", "camera_from_numbers", "camera_from_yaml", "read_colmap"]

COLMAP_MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}
"""COLMAP's number of each camera model: its name and its number of parameters."""


def camera_from_numbers(text: str, height: int, width: int) -> PinholeCamera:
    """Return the camera of "fx,fy,cx,cy" (pixels) for images of a size.

    Raises:
        ConfigError: the text is not four numbers, or a focal length is not positive.
    """
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(
            f"--intrinsics are {text!r}; they must be four numbers, fx,fy,cx,cy in pixels"
        ) from None
    return PinholeCamera(fx, fy, cx, cy, width, height)


def camera_from_yaml(path: Path) -> PinholeCamera:
    """Read the calibration file of ROS' camera_calibration, or a camera_info printed by `ros2 topic echo`.

    As for camera_info, the intrinsics are those of the projection matrix, or of the camera matrix if
    that is missing or zero: the images must be rectified.

    Raises:
        ConfigError: the file can't be read, or lacks the size or a matrix.
    """
    import yaml

    try:
        documents = [one for one in yaml.safe_load_all(path.read_text()) if isinstance(one, dict)]
    except Exception as error:  # PyYAML raises many kinds for values that do not fit their tags
        raise ConfigError(f"calibration {str(path)!r} can't be read: {error}") from None
    content: dict[str, Any] = documents[0] if documents else {}
    size: list[Any] = [content.get(f"image_{name}", content.get(name)) for name in ("width", "height")]
    p = _matrix(content, ("projection_matrix", "p", "P"), 12)
    k = _matrix(content, ("camera_matrix", "k", "K"), 9)
    if any(type(one) is not int or one < 1 for one in size) or (p is None and k is None):
        raise ConfigError(
            f"calibration {str(path)!r} needs image_width, image_height and camera_matrix or "
            "projection_matrix, as ROS' camera_calibration writes them (or the fields of a camera_info); "
            f"it has the size {size[0]!r} x {size[1]!r} and {'a' if k or p else 'no'} matrix"
        )
    if p is not None and (p[0] > 0 or k is None):
        return PinholeCamera(p[0], p[5], p[2], p[6], *size)
    assert k is not None
    return PinholeCamera(k[0], k[4], k[2], k[5], *size)


def _matrix(content: dict[str, Any], names: tuple[str, ...], size: int) -> list[float] | None:
    """Return the first of these matrices that has `size` numbers; None if there is none."""
    for name in names:
        value = content.get(name)
        if isinstance(value, dict):
            value = value.get("data")
        if isinstance(value, list) and len(value) == size:
            with suppress(TypeError, ValueError, OverflowError):  # not numbers
                return [float(one) for one in value]
    return None


@dataclass(frozen=True)
class ColmapView:
    """An image of a COLMAP model."""

    name: str
    camera: PinholeCamera
    pose: NDArray[np.float64]
    """(4, 4) transform from the camera to the world."""
    distorted: bool
    """Whether the camera model has distortion: its images must be undistorted first."""
    points: NDArray[np.float64]
    """(N, 3) points of the model that were seen in the image, in the world."""


@dataclass(frozen=True)
class ColmapModel:
    """The registered images of a COLMAP model, by name."""

    folder: Path
    views: dict[str, ColmapView]


def read_colmap(folder: Path) -> ColmapModel:
    """Read cameras and images of a COLMAP model, binary or text.

    Raises:
        ConfigError: the files are missing or damaged.
    """
    try:
        if (folder / "cameras.bin").is_file() and (folder / "images.bin").is_file():
            cameras = _cameras_from_binary(folder / "cameras.bin")
            images = list(_images_from_binary(folder / "images.bin"))
            points = _points_from_binary(folder / "points3D.bin")
        elif (folder / "cameras.txt").is_file() and (folder / "images.txt").is_file():
            cameras = _cameras_from_text(folder / "cameras.txt")
            images = list(_images_from_text(folder / "images.txt"))
            points = _points_from_text(folder / "points3D.txt")
        else:
            raise ConfigError(
                f"{str(folder)!r} holds no COLMAP model (cameras and images, .bin or .txt); name its sparse/0"
            )
        views = {}
        for name, number, values, seen in images:
            found = np.array([points[one] for one in seen if one in points]).reshape(-1, 3)
            pose = _pose(values[:4], values[4:])
            views[name] = ColmapView(name, cameras[number][0], pose, cameras[number][1], found)
    except (OSError, ValueError, LookupError, ArithmeticError, struct.error) as error:
        raise ConfigError(f"the COLMAP model {str(folder)!r} can't be read: {error!r}") from None
    return ColmapModel(folder, views)


def _camera(model: str, width: int, height: int, values: list[float]) -> tuple[PinholeCamera, bool]:
    if model.startswith(("SIMPLE", "RADIAL", "FOV")) and model != "FOV":
        fx = fy = values[0]
        cx, cy = values[1:3]
    else:
        fx, fy, cx, cy = values[:4]
    # COLMAP's pixel centres are at half integers.
    return PinholeCamera(fx, fy, cx - 0.5, cy - 0.5, width, height), "PINHOLE" not in model


def _cameras_from_binary(path: Path) -> dict[int, tuple[PinholeCamera, bool]]:
    cameras = {}
    with path.open("rb") as stream:
        for _ in range(_unpack(stream, "<Q")[0]):
            number, model, width, height = _unpack(stream, "<iiQQ")
            name, count = COLMAP_MODELS[model]
            cameras[number] = _camera(name, width, height, list(_unpack(stream, f"<{count}d")))
    return cameras


_Image = tuple[str, int, list[float], list[int]]
"""Name, camera, quaternion (w first) and translation, points that were seen."""


def _images_from_binary(path: Path) -> Iterator[_Image]:
    with path.open("rb") as stream:
        for _ in range(_unpack(stream, "<Q")[0]):
            values = _unpack(stream, "<i7di")
            name = b""
            while (letter := stream.read(1)) not in (b"\0", b""):
                name += letter
            count = _unpack(stream, "<Q")[0]
            # Python takes memory for all that is asked for before it reads.
            if 24 * count > path.stat().st_size:
                raise ValueError(f"{path.name} is too short for {count} observations")
            data = stream.read(24 * count)
            seen = np.frombuffer(data, np.dtype([("xy", "<f8", 2), ("point", "<i8")]))
            yield name.decode(), values[8], list(values[1:8]), seen["point"].tolist()


def _points_from_binary(path: Path) -> dict[int, tuple[float, float, float]]:
    points = {}
    if path.is_file():
        with path.open("rb") as stream:
            for _ in range(_unpack(stream, "<Q")[0]):
                number, x, y, z = _unpack(stream, "<Q3d")
                stream.seek(11, 1)  # colour and error
                stream.seek(8 * _unpack(stream, "<Q")[0], 1)
                points[number] = (x, y, z)
    return points


def _points_from_text(path: Path) -> dict[int, tuple[float, float, float]]:
    points = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        words = line.split()
        if words and not line.startswith("#"):
            points[int(words[0])] = (float(words[1]), float(words[2]), float(words[3]))
    return points


def _unpack(stream: BinaryIO, layout: str) -> tuple[Any, ...]:
    return struct.unpack(layout, stream.read(struct.calcsize(layout)))


def _cameras_from_text(path: Path) -> dict[int, tuple[PinholeCamera, bool]]:
    cameras = {}
    for line in path.read_text().splitlines():
        words = line.split()
        if words and not line.startswith("#"):
            values = [float(word) for word in words[4:]]
            cameras[int(words[0])] = _camera(words[1], int(words[2]), int(words[3]), values)
    return cameras


def _images_from_text(path: Path) -> Iterator[_Image]:
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    for line, observations in zip(lines[::2], [*lines[1::2], ""], strict=False):
        words = line.split(maxsplit=9)
        if len(words) == 10:
            seen = [int(float(word)) for word in observations.split()[2::3]]
            yield words[9].strip(), int(words[8]), [float(word) for word in words[1:8]], seen


def _pose(quaternion: list[float], translation: list[float]) -> NDArray[np.float64]:
    """Return camera to world of COLMAP's world to camera; its quaternion starts with w."""
    norm = math.hypot(*quaternion)
    if not (0.0 < norm < math.inf and all(map(math.isfinite, translation))):
        raise ValueError(f"a pose has the quaternion {quaternion} and the translation {translation}")
    w, x, y, z = (one / norm for one in quaternion)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = np.eye(4)
    pose[:3, :3] = rotation.T
    pose[:3, 3] = -rotation.T @ np.array(translation)
    return pose
