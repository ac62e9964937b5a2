"""Images as 8-bit RGB."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ImageError

__all__ = ["to_rgb8", "to_uint8"]


def to_rgb8(image: NDArray[Any]) -> NDArray[np.uint8]:
    """Convert an image to contiguous 8-bit RGB, (H, W, 3).

    Args:
        image: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, whose alpha is ignored; uint8,
            uint16 in [0, 65535] or floating point in [0, 1], clipped.

    Raises:
        ImageError: another shape or dtype, no pixels, or values that are NaN or infinite.
    """
    shape = image.shape
    if image.ndim not in (2, 3) or (image.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(f"image has shape {shape}; it must be (H, W), (H, W, 3) or (H, W, 4)")
    if 0 in shape:
        raise ImageError(f"image has shape {shape}; it has no pixels")
    if image.ndim == 2:
        image = image[:, :, None]
    image = image[:, :, :3]
    if np.issubdtype(image.dtype, np.floating):
        invalid = int((~np.isfinite(image)).sum())
        if invalid:
            raise ImageError(f"image has {invalid} NaN or infinite values; replace them first")
    elif image.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"image has dtype {image.dtype}; it must be uint8, uint16 or floating point")
    image = to_uint8(image)
    if image.shape[2] == 1:
        image = np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(image)


def to_uint8(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Round values of any shape to the full range of 8 bits; uint8 is returned unchanged.

    Args:
        values: uint8, uint16 in [0, 65535] or finite floating point in [0, 1], clipped.
    """
    if values.dtype == np.uint16:
        # One step of 8 bits is 65535 / 255 = 257 of 16 bits; >> 8 would take 256, and round down.
        values = (values.astype(np.uint32) + 128) // 257
    elif values.dtype != np.uint8:
        values = (np.clip(values, 0.0, 1.0) * 255.0).round()
    return values.astype(np.uint8, copy=False)
