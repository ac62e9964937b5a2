"""Conversion of calibrations."""

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.ros.msgs.camera_info import camera_from_msg, camera_to_msg, copy_camera_info

CAMERA = PinholeCamera(500.0, 510.0, 319.5, 239.5, 640, 480)


def calibration() -> CameraInfo:
    return camera_to_msg(CAMERA, Header(frame_id="camera"))


def test_camera_survives_the_way_to_a_message_and_back():
    assert camera_from_msg(calibration(), 480, 640) == CAMERA


def test_camera_from_msg_prefers_the_projection_matrix():
    info = calibration()
    info.p[0] = 450.0
    assert camera_from_msg(info, 480, 640).fx == 450.0
    info.p[0] = 0.0  # not filled in
    assert camera_from_msg(info, 480, 640).fx == 500.0


def test_camera_from_msg_applies_binning_and_region_of_interest():
    info = calibration()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    info.binning_x = info.binning_y = 2
    found = camera_from_msg(info, 150, 200)
    assert (found.fx, found.cx, found.cy) == (250.0, 109.75, 99.75)
    with pytest.raises(ConfigError, match="200x150 pixels, but the image has 640x480"):
        camera_from_msg(info, 480, 640)


def test_camera_from_msg_rejects_an_uncalibrated_camera():
    info = CameraInfo(height=480, width=640)
    with pytest.raises(ConfigError, match=r"fx is 0\.0"):
        camera_from_msg(info, 480, 640)


def test_copy_camera_info_copies_every_field_but_the_header():
    info = calibration()
    info.d, info.distortion_model, info.binning_x = [0.1] * 5, "rational_polynomial", 2
    info.roi.width, info.roi.do_rectify = 30, True
    copy = copy_camera_info(info, Header(frame_id="other"))
    assert copy.header.frame_id == "other"
    copy.header = info.header
    assert copy == info
