"""Calibrations: intrinsics of a message, and the message of a stamp."""

import threading

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.ros.msgs.camera_info import camera_info, copy_camera_info, intrinsics_of
from redepth_ros.ros.streams.message_cache import Stamped

CAMERA = Intrinsics(500.0, 510.0, 319.5, 239.5, 640, 480)


def info_at(seconds: float) -> CameraInfo:
    header = Header()
    header.stamp.sec, header.stamp.nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return camera_info(CAMERA, header)


def test_there_and_back():
    assert intrinsics_of(info_at(1.0), 480, 640) == CAMERA


def test_the_projection_matrix_goes_before_k():
    info = info_at(1.0)
    info.p[0] = 450.0
    assert intrinsics_of(info, 480, 640).fx == 450.0
    info.p[0] = 0.0  # not filled in
    assert intrinsics_of(info, 480, 640).fx == 500.0


def test_binning_and_region_of_interest():
    info = info_at(1.0)
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 100, 40, 400, 300
    info.binning_x = info.binning_y = 2
    found = intrinsics_of(info, 150, 200)
    assert (found.fx, found.cx, found.cy) == (250.0, 109.75, 99.75)
    with pytest.raises(ConfigError, match="200x150 pixels, the image has 640x480"):
        intrinsics_of(info, 480, 640)


def test_an_uncalibrated_camera_is_refused():
    info = CameraInfo(height=480, width=640)
    with pytest.raises(ConfigError, match=r"fx is 0\.0"):
        intrinsics_of(info, 480, 640)


def test_a_copy_has_every_field_and_another_header():
    info = info_at(1.0)
    info.d, info.distortion_model, info.binning_x = [0.1] * 5, "rational_polynomial", 2
    info.roi.width, info.roi.do_rectify = 30, True
    copy = copy_camera_info(info, Header(frame_id="other"))
    assert copy.header.frame_id == "other"
    copy.header = info.header
    assert copy == info


def test_the_nearest_within_the_tolerance():
    infos = Stamped(60)
    for seconds in (1.0, 1.1, 1.2):
        infos.add(info_at(seconds))
    stamp = info_at(1.104).header.stamp
    assert infos.wait_for_nearest(stamp, 0.01, 0.0) == info_at(1.1)
    assert infos.wait_for_nearest(stamp, 0.001, 0.0) is None


def test_one_that_comes_a_little_later_is_waited_for():
    infos = Stamped(60)
    infos.add(info_at(1.0))
    late = threading.Timer(0.05, infos.add, [info_at(1.1)])
    late.start()
    assert infos.wait_for_nearest(info_at(1.1).header.stamp, 0.0, patience=10.0) == info_at(1.1)
    late.join()


def test_a_camera_that_sends_none_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(threading.Condition, "wait", lambda *_: pytest.fail("it waits"))
    infos = Stamped(60)
    assert infos.wait_for_nearest(info_at(1.0).header.stamp, 0.0, patience=60.0) is None
    infos.add(info_at(1.0))
    assert infos.wait_for_nearest(info_at(50.0).header.stamp, 0.0, patience=60.0) is None
