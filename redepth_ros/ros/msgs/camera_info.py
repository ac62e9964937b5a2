"""Convert camera calibrations between sensor_msgs/CameraInfo and `PinholeCamera`."""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError

__all__ = ["camera_from_msg", "camera_to_msg", "copy_camera_info"]


def camera_from_msg(info: CameraInfo, height: int, width: int) -> PinholeCamera:
    """Return the camera of a rectified image.

    As in depth_image_proc, the intrinsics are those of the projection matrix P, or of K if P is
    zero; region of interest and binning are applied.

    Args:
        info: the calibration.
        height, width: size of the image, pixels.

    Raises:
        ConfigError: a calibration for another size, or of an uncalibrated camera.
    """
    bin_x, bin_y = max(1, info.binning_x), max(1, info.binning_y)
    expected = ((info.roi.height or info.height) // bin_y, (info.roi.width or info.width) // bin_x)
    if expected != (height, width):
        raise ConfigError(
            f"camera_info is for {expected[1]}x{expected[0]} pixels, but the image has {width}x{height}; "
            "remap camera_info to the topic that belongs to this image (for a resized image, that of "
            "image_proc)"
        )
    if info.p[0] > 0:
        fx, fy, cx, cy = info.p[0], info.p[5], info.p[2], info.p[6]
    else:
        fx, fy, cx, cy = info.k[0], info.k[4], info.k[2], info.k[5]
    return PinholeCamera(
        fx=float(fx) / bin_x,
        fy=float(fy) / bin_y,
        cx=(float(cx) - info.roi.x_offset) / bin_x,
        cy=(float(cy) - info.roi.y_offset) / bin_y,
        width=width,
        height=height,
    )


def camera_to_msg(camera: PinholeCamera, header: Header) -> CameraInfo:
    """Make the message of a camera without distortion."""
    fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
    info = CameraInfo()
    info.header = header
    info.width, info.height = camera.width, camera.height
    info.distortion_model = "plumb_bob"
    info.d = [0.0] * 5
    info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def copy_camera_info(info: Any, header: Header) -> CameraInfo:
    """Copy a calibration, from any object with the fields of CameraInfo, under another header."""
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
