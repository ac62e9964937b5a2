"""Any picture as RGB bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ImageError

__all__ = ["rgb_bytes", "to_bytes"]


def rgb_bytes(picture: NDArray[Any]) -> NDArray[np.uint8]:
    """A picture as (H, W, 3) RGB bytes.

    Args:
        picture: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA, whose alpha is ignored; uint8,
            uint16 (0..65535) or floating point (0..1, clipped).

    Raises:
        ImageError: another shape or dtype, no pixels, or values that are not finite.
    """
    shape = picture.shape
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and shape[2] not in (1, 3, 4)):
        raise ImageError(f"picture of shape {shape}; it must be (H, W), (H, W, 3) or (H, W, 4)")
    if 0 in shape:
        raise ImageError(f"picture of shape {shape}; it has no pixels")
    if picture.ndim == 2:
        picture = picture[:, :, None]
    picture = picture[:, :, :3]
    if np.issubdtype(picture.dtype, np.floating):
        wrong = int((~np.isfinite(picture)).sum())
        if wrong:
            raise ImageError(f"{wrong} values of the picture are NaN or infinite; replace them first")
    elif picture.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"picture of dtype {picture.dtype}; it must be uint8, uint16 or floating point")
    picture = to_bytes(picture)
    if picture.shape[2] == 1:
        picture = np.repeat(picture, 3, axis=2)
    return np.ascontiguousarray(picture)


def to_bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values of any shape as the nearest bytes of the full range; bytes as they are.

    Args:
        values: uint8, uint16 (0..65535) or finite floating point (0..1, clipped).
    """
    if values.dtype == np.uint16:
        # A byte's step is 257 of 16 bits, 65535 / 255; >> 8 would take 256, and round down.
        values = (values.astype(np.uint32) + 128) // 257
    elif values.dtype != np.uint8:
        values = (np.clip(values, 0.0, 1.0) * 255.0).round()
    return values.astype(np.uint8, copy=False)
