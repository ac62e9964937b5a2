"""Depth in colour, for eyes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["colour_depth"]


def colour_depth(depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A depth map (H, W) as RGB bytes (H, W, 3): near is bright, invalid is black.

    The colour goes with 1 / depth, between the 2nd and the 98th percentile of the picture.
    """
    valid = np.isfinite(depth) & (depth > 0)
    disparity = 1.0 / np.where(valid, depth, 1.0)
    some = disparity[::4, ::4][valid[::4, ::4]]
    low, high = np.percentile(some, (2, 98)) if some.size else (0.0, 1.0)
    grey = np.clip((disparity - low) / max(high - low, 1e-9) * 255.0, 0.0, 255.0).astype(np.uint8)
    mapped = cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO)
    colour: NDArray[np.uint8] = cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB)
    colour[~valid] = 0
    return colour
