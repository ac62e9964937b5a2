"""Colours for depth maps and normals."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["INVALID_GREY", "colorize_depth", "colorize_normals"]

INVALID_GREY = 0.7
"""Grey of invalid pixels in figures and maps of normals, in [0, 1]."""


def colorize_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a depth map as 8-bit RGB, (H, W, 3): near is bright, invalid is black.

    The colour is linear in 1 / depth, between the 2nd and the 98th percentile of the image.

    Args:
        depth: (H, W) in any unit; NaN, infinite or not positive where invalid.
    """
    valid = np.isfinite(depth) & (depth > 0)
    disparity = 1.0 / np.where(valid, depth, 1.0)
    sample = disparity[::4, ::4][valid[::4, ::4]]
    low, high = np.percentile(sample, (2, 98)) if sample.size else (0.0, 1.0)
    grey = np.clip((disparity - low) / max(high - low, 1e-9) * 255.0, 0.0, 255.0).astype(np.uint8)
    mapped = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
    colours: NDArray[np.uint8] = cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB)
    colours[~valid] = 0
    return colours


def colorize_normals(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normals as RGB in [0, 1], (H, W, 3); invalid is grey.

    Red is to the right, green up and blue towards the camera, as in other normal maps.

    Args:
        normals: (3, H, W) unit vectors in the optical frame, NaN where invalid.
    """
    colours = 0.5 + 0.5 * normals.transpose(1, 2, 0) * np.array([1.0, -1.0, -1.0], np.float32)
    return np.asarray(np.nan_to_num(colours, nan=INVALID_GREY).clip(0.0, 1.0), np.float32)
