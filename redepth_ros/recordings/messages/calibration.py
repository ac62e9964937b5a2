"""Read the fields of sensor_msgs/CameraInfo."""

from __future__ import annotations

from typing import Any

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError

__all__ = ["camera_from_fields"]


def camera_from_fields(info: Any, height: int, width: int) -> PinholeCamera:
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
