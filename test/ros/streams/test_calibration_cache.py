"""Calibrations whose stamps follow the images, and constant ones."""

import time

import pytest

pytest.importorskip("rclpy")

from fakes import PATIENCE, FakeClock, header_at
from sensor_msgs.msg import CameraInfo

from redepth_ros.ros.streams import calibration_cache
from redepth_ros.ros.streams.calibration_cache import CalibrationCache


class Setup:
    def __init__(self):
        self.informed = []
        self.cache = CalibrationCache(60, "/camera_info", self.informed.append)

    def add(self, *stamps):
        for seconds in stamps:
            self.cache.add(CameraInfo(header=header_at(seconds)))

    def find(self, seconds, **options):
        return self.cache.nearest(header_at(seconds).stamp, 0.01, **options)


@pytest.fixture
def setup():
    return Setup()


@pytest.mark.parametrize(
    ("stamps", "reason"), [((0.0,), "has the stamp 0"), ((3.0, 3.0), "has the same stamp always")]
)
def test_a_stamp_that_says_nothing_is_used_for_all_images_and_reported_once(setup, stamps, reason):
    setup.add(*stamps)
    for seconds in (500.0, 501.0):
        assert setup.find(seconds, timeout=PATIENCE) is not None
    assert setup.informed == [f"/camera_info {reason}: it is used for all images"]


def test_a_calibration_that_was_published_once_is_used_after_a_second(setup, monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(calibration_cache.time, "monotonic", clock)
    setup.add(3.0)
    assert setup.find(500.0) is None
    clock.advance(1.1)
    assert setup.find(500.0) is not None
    assert setup.informed == ["/camera_info was published once: it is used for all images"]


def test_the_wait_is_for_stamps_that_advance_only(setup):
    setup.add(0.0)
    began = time.monotonic()
    assert setup.find(500.0, timeout=PATIENCE) is not None
    assert time.monotonic() - began < PATIENCE / 2


def test_stamps_that_advance_must_match(setup):
    setup.add(1.0, 1.1, 1.1)
    assert setup.find(1.1) is not None
    assert setup.find(1.2) is None
    assert setup.cache.mismatch(header_at(1.2).stamp, 0.01) == (
        "the nearest message on /camera_info is 0.100 s away, more than camera_info_tolerance = 0.01 s; "
        "publish it with the stamp of each image, or raise camera_info_tolerance"
    )
    assert not setup.informed


def test_without_a_message_the_remedy_is_to_publish_it(setup):
    assert setup.find(1.0) is None
    text = setup.cache.mismatch(header_at(1.0).stamp, 0.01)
    assert text == "no message arrived on /camera_info; publish it, or remap camera_info"
