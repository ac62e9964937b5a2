"""Messages found by their stamps."""

import threading
import time

import pytest

pytest.importorskip("rclpy")

from fakes import PATIENCE, header_at
from sensor_msgs.msg import CameraInfo

from redepth_ros.ros.streams.message_cache import MessageCache


def info_at(seconds):
    return CameraInfo(header=header_at(seconds))


def stamp_at(seconds):
    return header_at(seconds).stamp


@pytest.fixture
def cache():
    cache = MessageCache(3)
    for seconds in (1.0, 2.0, 3.0, 4.0):
        cache.add(info_at(seconds))
    return cache


def test_nearest_returns_the_nearest_stamp_in_either_direction(cache):
    assert cache.nearest(stamp_at(2.6), 0.5).header.stamp.sec == 3
    assert cache.nearest(stamp_at(3.4), 0.5).header.stamp.sec == 3


def test_nearest_respects_the_tolerance(cache):
    assert cache.nearest(stamp_at(4.01), 0.01) is not None
    assert cache.nearest(stamp_at(4.011), 0.01) is None
    assert cache.nearest(stamp_at(3.99), 0.009) is None


def test_the_oldest_messages_are_dropped(cache):
    assert cache.nearest(stamp_at(1.0), 0.5) is None
    assert cache.nearest(stamp_at(2.0), 0.0) is not None


def test_an_empty_cache_has_no_nearest_message_and_does_not_wait():
    began = time.monotonic()
    assert MessageCache(3).nearest(stamp_at(1.0), 1.0, timeout=PATIENCE) is None
    assert time.monotonic() - began < PATIENCE / 2


def test_nearest_waits_for_a_message_that_arrives_within_the_timeout(cache):
    timer = threading.Timer(0.1, cache.add, (info_at(4.5),))
    timer.start()
    assert cache.nearest(stamp_at(4.5), 0.0, timeout=PATIENCE) is not None
    timer.join()


def test_nearest_waits_no_longer_than_the_timeout(cache):
    began = time.monotonic()
    assert cache.nearest(stamp_at(4.5), 0.0, timeout=0.05) is None
    assert 0.04 < time.monotonic() - began < PATIENCE / 2


def test_nearest_does_not_wait_for_a_topic_that_has_stopped(cache):
    began = time.monotonic()
    assert cache.nearest(stamp_at(5.0), 0.0, timeout=PATIENCE) is None
    assert time.monotonic() - began < PATIENCE / 2
