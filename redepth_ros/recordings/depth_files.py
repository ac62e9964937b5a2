"""Files of measured depth: PNG of one channel, and NumPy's .npy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ImageError
from redepth_ros.recordings.images import read_image_size

__all__ = ["read_depth_file", "read_npy", "read_one_channel"]


def read_depth_file(path: Path) -> NDArray[np.float32]:
    """Read measured depth, (H, W) in metres, NaN where invalid: a 16-bit PNG in millimetres, or .npy.

    Raises:
        ImageError: the file can't be read, or is no depth image.
    """
    if path.suffix == ".npy":
        depth = read_npy(path)
        return np.where(depth > 0, depth, np.float32(np.nan))
    stored = read_one_channel(path)
    if stored.dtype != np.uint16:
        raise ImageError(f"depth {str(path)!r} is not a 16-bit PNG of one channel (millimetres)")
    return np.where(stored > 0, stored.astype(np.float32) * np.float32(1e-3), np.float32(np.nan))


def read_npy(path: Path) -> NDArray[np.float32]:
    """Read an array of numbers or booleans, (H, W) or with further axes of length 1, as (H, W).

    Raises:
        ImageError: the file can't be read, or holds something else.
    """
    try:
        # Mapped, because otherwise memory is taken for the shape in the header before the data is read.
        with np.errstate(over="ignore"):  # the size of such a shape
            stored = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy raises many kinds for a damaged header
        raise ImageError(f"{str(path)!r} can't be read as .npy: {error}; download or copy it again") from None
    if stored.dtype.kind not in "buif" or stored.squeeze().ndim != 2:
        raise ImageError(
            f"{str(path)!r} holds {stored.dtype} of shape {stored.shape}; it must be numbers of shape (H, W)"
        )
    with np.errstate(over="ignore"):  # becomes infinite
        return np.array(stored.squeeze(), np.float32)


def read_one_channel(path: Path) -> NDArray[Any]:
    """Read an image file of one channel with the values that are stored, (H, W).

    Raises:
        ImageError: there is no such file, or it is no image of one channel.
    """
    read_image_size(path)  # OpenCV takes memory for the size in a header before it reads
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2:
        raise ImageError(f"depth {str(path)!r} is not a PNG with one channel")
    return np.asarray(stored)
