"""Convert point clouds between sensor_msgs/PointCloud2 and arrays."""

from __future__ import annotations

import array
import sys

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError

try:
    from sensor_msgs_py.point_cloud2 import create_cloud, read_points
except ImportError:  # it is not on PyPI
    from redepth_ros.ros.msgs.point_cloud2 import create_cloud, read_points

__all__ = ["points_from_msg", "points_to_msg"]

POINT = np.dtype([("x", np.float32), ("y", np.float32), ("z", np.float32), ("rgb", np.float32)])
"""Layout of depth_image_proc; PCL and rviz read the colour from the bits of a float32."""

FIELDS = [
    PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
    for index, name in enumerate(("x", "y", "z", "rgb"))
]


def points_to_msg(points: NDArray[np.float32], image: NDArray[np.uint8], header: Header) -> PointCloud2:
    """Make an organised, coloured cloud with one point for each pixel.

    Args:
        points: (3, H, W) in the header's frame, metres, NaN where invalid.
        image: (H, W, 3) 8-bit RGB.
        header: header of the image.
    """
    height, width = points.shape[1:]
    cloud = np.empty((height, width), POINT)
    for axis, name in enumerate("xyz"):
        cloud[name] = points[axis]
    wide = image.astype(np.uint32)
    cloud["rgb"] = (wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]).view(np.float32)
    # Given (H, W) points, create_cloud exchanges height and width (ros2/common_interfaces#236).
    msg = create_cloud(header, FIELDS, cloud.reshape(-1))
    msg.height, msg.width, msg.row_step = height, width, POINT.itemsize * width
    msg.is_dense = bool(np.isfinite(points[2]).all())
    return msg


def points_from_msg(msg: PointCloud2) -> NDArray[np.float64]:
    """Return the points of a cloud in its own frame, (N, 3).

    Padded rows are accepted, and a `row_step` of 0 in a cloud of one row, which common drivers send.

    Raises:
        ImageError: no fields x, y and z of float32 or float64, or inconsistent sizes.
    """
    sizes = {PointField.FLOAT32: 4, PointField.FLOAT64: 8}
    fields = {field.name: field for field in msg.fields}
    if any(name not in fields or fields[name].datatype not in sizes for name in "xyz"):
        raise ImageError(
            f"point cloud has the fields {', '.join(fields) or 'none'}; it needs x, y and z as float32 or "
            "float64"
        )
    end = max(fields[name].offset + sizes[fields[name].datatype] for name in "xyz")
    if end > msg.point_step:
        raise ImageError(
            f"fields of the point cloud end at byte {end} of a point, but point_step is {msg.point_step}: "
            "the driver fills the message incorrectly"
        )
    if not msg.width * msg.height:
        return np.empty((0, 3))
    row = msg.point_step * msg.width
    data = _contiguous_rows(msg, row)  # checks the sizes, which may not fit the fields of a message
    rows = PointCloud2(height=msg.height, width=msg.width, point_step=msg.point_step, row_step=row, data=data)
    rows.is_bigendian = msg.is_bigendian
    # Only these, because read_points rejects clouds of which any other field is malformed.
    rows.fields = [
        PointField(name=name, offset=fields[name].offset, datatype=fields[name].datatype, count=1)
        for name in "xyz"
    ]
    structured = read_points(rows, field_names=["x", "y", "z"])
    points = np.empty((len(structured), 3))
    with np.errstate(invalid="ignore"):  # NaN of any kind
        for axis, name in enumerate("xyz"):
            points[:, axis] = structured[name]
    return points


def _contiguous_rows(msg: PointCloud2, row: int) -> array.array[int]:
    """Return the data of a cloud without the padding of its rows.

    Args:
        msg: the cloud.
        row: bytes of a row without padding.

    Raises:
        ImageError: inconsistent sizes.
    """
    step = row if msg.height == 1 and msg.row_step == 0 else msg.row_step
    if step < row or len(msg.data) < step * (msg.height - 1) + row:
        raise ImageError(
            f"point cloud of {msg.width}x{msg.height} points of {msg.point_step} bytes has a row_step of "
            f"{msg.row_step} and {len(msg.data)} bytes of data: the driver fills the message incorrectly, "
            "or it was truncated"
        )
    # sensor_msgs_py swaps the bytes of a big-endian cloud in place.
    native = bool(msg.is_bigendian) == (sys.byteorder == "big")
    if native and (step == row or msg.height == 1):
        return msg.data
    data = memoryview(msg.data)
    compact = array.array("B")
    for index in range(msg.height):
        compact.frombytes(data[index * step : index * step + row])
    return compact
