"""Two functions of sensor_msgs_py.point_cloud2, for environments without that package.

sensor_msgs_py belongs to every installation of ROS 2 but is not on PyPI. `create_cloud` and
`read_points` have its names, arguments and results, as far as this package uses them.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

__all__ = ["create_cloud", "read_points"]

TYPES = {
    PointField.INT8: "i1",
    PointField.UINT8: "u1",
    PointField.INT16: "i2",
    PointField.UINT16: "u2",
    PointField.INT32: "i4",
    PointField.UINT32: "u4",
    PointField.FLOAT32: "f4",
    PointField.FLOAT64: "f8",
}
"""NumPy's name of each datatype."""


def create_cloud(header: Header, fields: Sequence[PointField], points: NDArray[Any]) -> PointCloud2:
    """Make a cloud of one row.

    Args:
        header: header of the message.
        fields: fields of a point, each of count 1.
        points: (N,) structured array whose dtype is that of the fields.

    Raises:
        AssertionError: the dtype is not that of the fields.
    """
    native = ">" if sys.byteorder == "big" else "<"
    assert points.dtype == _dtype(fields, native, points.dtype.itemsize), "dtype and fields differ"
    cloud = PointCloud2(header=header, height=1, width=len(points), fields=list(fields))
    cloud.is_bigendian = sys.byteorder == "big"
    cloud.point_step = points.dtype.itemsize
    cloud.row_step = cloud.point_step * cloud.width
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(points).data.cast("B"))
    cloud.data = data
    return cloud


def read_points(cloud: PointCloud2, field_names: Sequence[str]) -> NDArray[Any]:
    """Return fields of all points as a structured array, (N,).

    Args:
        cloud: the message, with rows of width x point_step bytes and fields of count 1.
        field_names: fields that are returned.

    Raises:
        AssertionError: the cloud has no such field.
    """
    order = ">" if cloud.is_bigendian else "<"
    dtype = _dtype(cloud.fields, order, cloud.point_step)
    assert set(field_names) <= set(dtype.names or ()), "the cloud has no such field"
    points: NDArray[Any] = np.ndarray((cloud.width * cloud.height,), dtype, buffer=memoryview(cloud.data))
    return points[list(field_names)]


def _dtype(fields: Sequence[PointField], order: str, size: int) -> np.dtype[Any]:
    """Return the dtype of points of `size` bytes in a byte order."""
    return np.dtype(
        {
            "names": [field.name for field in fields],
            "formats": [order + TYPES[field.datatype] for field in fields],
            "offsets": [field.offset for field in fields],
            "itemsize": size,
        }
    )
