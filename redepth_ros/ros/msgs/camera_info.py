"""Camera calibrations: sensor_msgs/CameraInfo to and from intrinsics."""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.camera import Intrinsics

__all__ = ["camera_info", "copy_camera_info", "intrinsics_of"]


def intrinsics_of(info: CameraInfo, height: int, width: int) -> Intrinsics:
    """Pinhole intrinsics of a rectified image.

    As in depth_image_proc they are those of the projection matrix P, or of K where P is
    not filled in; a region of interest and binning are taken into account.

    Raises:
        ConfigError: a calibration of another size, or an uncalibrated one.
    """
    bin_x, bin_y = max(1, info.binning_x), max(1, info.binning_y)
    expected = ((info.roi.height or info.height) // bin_y, (info.roi.width or info.width) // bin_x)
    if expected != (height, width):
        raise ConfigError(
            f"camera_info is for {expected[1]}x{expected[0]} pixels, the image has {width}x{height}; "
            "remap camera_info to the one of this image (after resizing: image_proc's)"
        )
    if info.p[0] > 0:
        fx, fy, cx, cy = info.p[0], info.p[5], info.p[2], info.p[6]
    else:
        fx, fy, cx, cy = info.k[0], info.k[4], info.k[2], info.k[5]
    return Intrinsics(
        fx=float(fx) / bin_x,
        fy=float(fy) / bin_y,
        cx=(float(cx) - info.roi.x_offset) / bin_x,
        cy=(float(cy) - info.roi.y_offset) / bin_y,
        width=width,
        height=height,
    )


def camera_info(intrinsics: Intrinsics, header: Header) -> CameraInfo:
    """The message of an ideal pinhole camera."""
    fx, fy, cx, cy = intrinsics.fx, intrinsics.fy, intrinsics.cx, intrinsics.cy
    info = CameraInfo()
    info.header = header
    info.width, info.height = intrinsics.width, intrinsics.height
    info.distortion_model = "plumb_bob"
    info.d = [0.0] * 5
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def copy_camera_info(info: Any, header: Header) -> CameraInfo:
    """The same calibration, from any object with CameraInfo's fields, under another header."""
    copy = CameraInfo()
    copy.header = header
    copy.height, copy.width = int(info.height), int(info.width)
    copy.distortion_model = str(info.distortion_model)
    for name in "dkrp":
        setattr(copy, name, [float(value) for value in getattr(info, name)])
    copy.binning_x, copy.binning_y = int(info.binning_x), int(info.binning_y)
    for name in ("x_offset", "y_offset", "height", "width"):
        setattr(copy.roi, name, int(getattr(info.roi, name)))
    copy.roi.do_rectify = bool(info.roi.do_rectify)
    return copy
