"""Colours for maps of depth, standard deviation and normals."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "INVALID_GREY",
    "MAX_RELATIVE_STDDEV",
    "colorize_depth",
    "colorize_normals",
    "colorize_stddev",
    "depth_limits",
]

INVALID_GREY = 0.7
"""Grey of invalid pixels in figures and maps of normals, in [0, 1]."""
MAX_RELATIVE_STDDEV = 0.2
"""Relative standard deviation of the brightest colour."""


def depth_limits(depth: NDArray[np.float32]) -> tuple[float, float] | None:
    """Return the depths of the brightest and the darkest colour; None without valid pixels.

    They are the 98th and the 2nd percentile of 1 / depth, over one pixel in 16.

    Args:
        depth: (H, W) in any unit; NaN, infinite or not positive where invalid.
    """
    sample = depth[::4, ::4]
    sample = sample[np.isfinite(sample) & (sample > 0)]
    if not sample.size:
        return None
    far, near = 1.0 / np.percentile(1.0 / sample, (2, 98))
    return float(near), float(far)


def colorize_depth(
    depth: NDArray[np.float32], limits: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Return a depth map as 8-bit RGB, (H, W, 3): near is bright, invalid is black.

    The colour is linear in 1 / depth.

    Args:
        depth: (H, W) in any unit; NaN, infinite or not positive where invalid.
        limits: depths of the brightest and the darkest colour; None takes `depth_limits`.
    """
    valid = np.isfinite(depth) & (depth > 0)
    disparity = 1.0 / np.where(valid, depth, 1.0)
    near, far = limits or depth_limits(depth) or (1.0, np.inf)
    grey = (disparity - 1.0 / far) / max(1.0 / near - 1.0 / far, 1e-9) * 255.0
    return _colorize(grey, cv2.COLORMAP_INFERNO, valid)


def colorize_stddev(stddev: NDArray[np.float32], depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the relative standard deviation as 8-bit RGB, (H, W, 3): large is bright, invalid is black.

    Args:
        stddev, depth: (H, W) in the same unit; NaN, infinite or not positive where invalid.
    """
    valid = np.isfinite(stddev) & np.isfinite(depth) & (depth > 0)
    relative = np.where(valid, stddev, 0.0) / np.where(valid, depth, 1.0)
    return _colorize(relative / MAX_RELATIVE_STDDEV * 255.0, cv2.COLORMAP_VIRIDIS, valid)


def _colorize(grey: NDArray[np.floating[Any]], colours: int, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return the colours of (H, W) values in [0, 255]; values beyond are clipped, invalid pixels black."""
    mapped = cv2.applyColorMap(np.clip(grey, 0.0, 255.0).astype(np.uint8), colours)
    rgb: NDArray[np.uint8] = cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB)
    rgb[~valid] = 0
    return rgb


def colorize_normals(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normals as RGB in [0, 1], (H, W, 3); invalid is grey.

    Red is to the right, green up and blue towards the camera, as in other normal maps.

    Args:
        normals: (3, H, W) unit vectors in the optical frame, NaN where invalid.
    """
    colours = 0.5 + 0.5 * normals.transpose(1, 2, 0) * np.array([1.0, -1.0, -1.0], np.float32)
    return np.asarray(np.nan_to_num(colours, nan=INVALID_GREY).clip(0.0, 1.0), np.float32)
