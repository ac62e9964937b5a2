"""Convert camera calibrations between sensor_msgs/CameraInfo and `PinholeCamera`."""

from __future__ import annotations

from typing import Any

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.recordings.messages.calibration import camera_from_fields as camera_from_msg

__all__ = ["camera_from_msg", "camera_to_msg", "copy_camera_info"]


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
