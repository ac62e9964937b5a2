"""Calibrations of data sets: KITTI's calib_cam_to_cam.txt, and ETH3D's cameras in COLMAP's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError

__all__ = ["ColmapCamera", "read_colmap_cameras", "read_kitti_focals"]

PARAMETERS = {"PINHOLE": 4, "THIN_PRISM_FISHEYE": 12}
"""Models that ETH3D uses, and the number of their parameters."""

Map = NDArray[np.float32]


def read_kitti_focals(path: Path, camera: str) -> tuple[float, float, float, float]:
    """Return fx, fy, cx, cy of a rectified camera of KITTI's raw data.

    Args:
        path: calib_cam_to_cam.txt of a day.
        camera: folder of its images: image_02 (left) or image_03 (right).

    Raises:
        ConfigError: the file does not give them.
    """
    key = f"P_rect_{camera.removeprefix('image_')}"
    try:
        lines = dict(line.split(":", 1) for line in path.read_text().splitlines() if ":" in line)
        values = [float(word) for word in lines[key].split()]
        return values[0], values[5], values[2], values[6]
    except (OSError, KeyError, ValueError, IndexError) as error:
        raise ConfigError(
            f"{path} has no valid line {key} ({type(error).__name__}: {error}); download it again"
        ) from error


@dataclass(frozen=True)
class ColmapCamera:
    """A camera of COLMAP, whose images may be distorted."""

    model: str
    pinhole: PinholeCamera
    """Camera of the rectified images, in our convention: the first pixel's centre is (0, 0)."""
    distortion: tuple[float, ...] = ()
    """k1, k2, p1, p2, k3, k4, sx1, sy1 of THIN_PRISM_FISHEYE; none of PINHOLE."""

    def rectify(self, values: NDArray, nearest: bool = False) -> NDArray:
        """Return an image (H, W, 3) uint8 or a depth image (H, W) float32 without distortion.

        Args:
            values: of this camera's size.
            nearest: takes the nearest pixel instead of interpolating, for depth.

        Returns:
            An array of the same shape; 0 or NaN outside the image.
        """
        if not self.distortion:
            return values
        columns, rows = self._distorted_pixels()
        method = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
        outside = np.nan if values.dtype == np.float32 else 0
        return cv2.remap(values, columns, rows, method, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)

    def _distorted_pixels(self) -> tuple[Map, Map]:
        """Return the column and the row in the distorted image of each rectified pixel, (H, W) each."""
        camera = self.pinhole
        k1, k2, p1, p2, k3, k4, sx1, sy1 = self.distortion
        x = (np.arange(camera.width, dtype=np.float32)[None] - camera.cx) / camera.fx  # (1, W)
        y = (np.arange(camera.height, dtype=np.float32)[:, None] - camera.cy) / camera.fy  # (H, 1)
        radius = np.maximum(np.hypot(x, y), 1e-9)  # (H, W)
        angle = np.arctan(radius)
        x, y = x * angle / radius, y * angle / radius
        square = angle**2
        radial = square * (k1 + square * (k2 + square * (k3 + square * k4)))
        columns = x * (1.0 + radial) + 2.0 * p1 * x * y + p2 * (square + 2.0 * x**2) + sx1 * square
        rows = y * (1.0 + radial) + 2.0 * p2 * x * y + p1 * (square + 2.0 * y**2) + sy1 * square
        return (
            (columns * camera.fx + camera.cx).astype(np.float32),
            (rows * camera.fy + camera.cy).astype(np.float32),
        )


def read_colmap_cameras(folder: Path) -> dict[str, ColmapCamera]:
    """Return the camera of each image, by the image's name, for example dslr_images/DSC_0259.JPG.

    Args:
        folder: with cameras.txt and images.txt.

    Raises:
        ConfigError: a file is missing or damaged, or a camera has another model.
    """
    cameras = {}
    for words in filter(None, _read_lines(folder / "cameras.txt")):
        try:
            cameras[words[0]] = _camera_from_words(words[1:])
        except (ValueError, IndexError, ConfigError) as error:
            raise ConfigError(
                f"{folder / 'cameras.txt'}: the camera {words[0]} can't be used: {error}; ETH3D's models are "
                f"{' and '.join(PARAMETERS)}"
            ) from error
    found = {}
    for words in _read_lines(folder / "images.txt")[::2]:  # each second line lists points
        if len(words) < 10 or words[8] not in cameras:
            raise ConfigError(f"{folder / 'images.txt'}: {' '.join(words)!r} names no camera of cameras.txt")
        found[" ".join(words[9:])] = cameras[words[8]]
    return found


def _read_lines(path: Path) -> list[list[str]]:
    """Return the words of all lines but comments; an image without points has an empty line."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read: {error}; download the calibration again") from error
    return [line.split() for line in lines if not line.startswith("#")]


def _camera_from_words(words: list[str]) -> ColmapCamera:
    model, width, height = words[0], int(words[1]), int(words[2])
    numbers = [float(word) for word in words[3:]]
    if len(numbers) != PARAMETERS.get(model):
        raise ValueError(f"{model} with {len(numbers)} parameters")
    fx, fy, cx, cy = numbers[:4]
    # The centre of COLMAP's first pixel is (0.5, 0.5).
    return ColmapCamera(model, PinholeCamera(fx, fy, cx - 0.5, cy - 0.5, width, height), tuple(numbers[4:]))
