"""Middlebury's Motorcycle, a photograph with measured depth that comes with scikit-image.

Source: Scharstein et al., High-resolution stereo datasets with subpixel-accurate ground truth
(GCPR 2014), at a quarter of the full size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera

__all__ = ["CAMERA", "depth_from_stereo", "load_motorcycle"]

CAMERA = PinholeCamera(994.978, 994.978, 311.193, 254.877, 741, 500)
"""Calibration of the left camera."""

BASELINE = 0.193001
"""Distance between the two cameras, metres."""

DISPARITY_OFFSET = 31.086
"""Difference of the two principal points along x, pixels."""


def depth_from_stereo(disparity: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the depth of a stereo disparity, in metres; NaN stays NaN.

    Args:
        disparity: any shape, in pixels.
    """
    return np.float32(BASELINE * CAMERA.fx) / (disparity + np.float32(DISPARITY_OFFSET))


def load_motorcycle() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the left image (H, W, 3), RGB, and its depth (H, W) in metres, NaN where not measured."""
    import skimage.data

    image, _, disparity = skimage.data.stereo_motorcycle()
    measured = np.isfinite(disparity) & (disparity > 0)
    disparity = np.where(measured, disparity, np.nan).astype(np.float32)
    return np.ascontiguousarray(image), depth_from_stereo(disparity)
