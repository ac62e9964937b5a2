"""Point clouds: organised and coloured ones out, anybody's in.

Written by hand because sensor_msgs_py is not to be had from PyPI, and because its
create_cloud differs between distributions; the layout is the one of depth_image_proc.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.ros.msgs.images import to_array

__all__ = ["decode_cloud", "encode_cloud"]

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")])


def encode_cloud(points: NDArray[np.float32], image: NDArray[np.uint8], header: Header) -> PointCloud2:
    """A cloud with a point for each pixel.

    Args:
        points: (3, H, W) in the header's frame, metres, NaN where invalid.
        image: (H, W, 3) RGB bytes.
        header: of the image.
    """
    cloud = np.empty(points.shape[1:], POINT)
    for axis, name in enumerate("xyz"):
        cloud[name] = points[axis]
    wide = image.astype(np.uint32)
    cloud["rgb"] = wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]
    message = PointCloud2()
    message.header = header
    message.height, message.width = cloud.shape
    # PCL and rviz read the colour as the bits of a float32.
    message.fields = [
        PointField(name=name, offset=offset, datatype=PointField.FLOAT32, count=1)
        for name, offset in (("x", 0), ("y", 4), ("z", 8), ("rgb", 12))
    ]
    message.is_bigendian = False
    message.point_step = POINT.itemsize
    message.row_step = POINT.itemsize * cloud.shape[1]
    message.data = to_array(cloud)
    message.is_dense = bool(np.isfinite(points[2]).all())
    return message


def decode_cloud(message: PointCloud2) -> NDArray[np.float64]:
    """The points of a cloud, (N, 3), in its own frame.

    Raises:
        ImageError: no fields x, y and z of float32 or float64, or sizes that do not fit each other.
    """
    order = ">" if message.is_bigendian else "<"
    kinds = {PointField.FLOAT32: f"{order}f4", PointField.FLOAT64: f"{order}f8"}
    fields = {field.name: field for field in message.fields}
    if any(name not in fields or fields[name].datatype not in kinds for name in "xyz"):
        raise ImageError(
            f"point cloud with the fields {', '.join(fields) or 'none'}; it needs x, y and z as float32 "
            "or float64"
        )
    ends = [fields[name].offset + np.dtype(kinds[fields[name].datatype]).itemsize for name in "xyz"]
    if max(ends) > message.point_step:
        raise ImageError(
            f"point cloud whose fields end at byte {max(ends)} of a point, its point_step is "
            f"{message.point_step}: its driver fills it wrongly"
        )
    layout = np.dtype({
        "names": list("xyz"), "formats": [kinds[fields[name].datatype] for name in "xyz"],
        "offsets": [fields[name].offset for name in "xyz"], "itemsize": message.point_step,
    })  # fmt: skip
    count = message.width * message.height
    if (
        message.row_step != message.point_step * message.width
        or len(message.data) < message.point_step * count
    ):
        raise ImageError(
            f"point cloud of {message.width}x{message.height} points of {message.point_step} bytes has a "
            f"row_step of {message.row_step} and {len(message.data)} bytes of data: its driver fills it "
            "wrongly"
        )
    points = np.frombuffer(memoryview(message.data), layout, count)
    return np.stack([points[name].astype(np.float64) for name in "xyz"], axis=1)
