"""Organised, coloured point clouds.

Written by hand because sensor_msgs_py is not to be had from PyPI, and because its
create_cloud differs between distributions; the layout is the one of depth_image_proc.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.ros.images import to_array

__all__ = ["encode_cloud"]

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
