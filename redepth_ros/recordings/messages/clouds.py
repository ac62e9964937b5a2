"""Decode the fields of sensor_msgs/PointCloud2."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ImageError

__all__ = ["points_from_fields"]

SIZES = {7: ("f4", 4), 8: ("f8", 8)}
"""NumPy's type and size of the datatypes FLOAT32 and FLOAT64."""


def points_from_fields(msg: Any) -> NDArray[np.float64]:
    """Return the points of a cloud in its own frame, (N, 3).

    Padded rows are accepted, and for a cloud of one row a `row_step` of 0.

    Raises:
        ImageError: no fields x, y and z of float32 or float64, or inconsistent sizes.
    """
    fields = {field.name: field for field in msg.fields}
    if any(name not in fields or fields[name].datatype not in SIZES for name in "xyz"):
        raise ImageError(
            f"point cloud has the fields {', '.join(fields) or 'none'}; it needs x, y and z as float32 or "
            "float64"
        )
    row = msg.point_step * msg.width
    step = row if msg.height == 1 and msg.row_step == 0 else msg.row_step
    end = max(fields[name].offset + SIZES[fields[name].datatype][1] for name in "xyz")
    if end > msg.point_step or step < row or len(msg.data) < step * (msg.height - 1) + row:
        raise ImageError(
            f"point cloud of {msg.width}x{msg.height} points of {msg.point_step} bytes has a row_step of "
            f"{msg.row_step}, fields up to byte {end} and {len(msg.data)} bytes of data: the driver fills "
            "the "
            "message incorrectly, or it was truncated"
        )
    order, data = ">" if msg.is_bigendian else "<", memoryview(msg.data)
    shape, strides = (msg.height, msg.width), (step, msg.point_step)
    columns: list[NDArray[Any]] = [
        np.ndarray(shape, order + SIZES[fields[name].datatype][0], data, fields[name].offset, strides)
        for name in "xyz"
        if msg.width and msg.height
    ]
    if not columns:
        return np.empty((0, 3))
    return np.stack([column.reshape(-1).astype(np.float64) for column in columns], axis=1)
