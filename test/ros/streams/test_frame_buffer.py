"""Frames found by their stamps."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from fakes import header_at, image_at

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import anchors_from_depth
from redepth_ros.ros.streams.frame_buffer import FrameBuffer

ANCHORS = anchors_from_depth(np.ones((4, 4), np.float32))
ZERO = header_at(0.0).stamp


@pytest.fixture
def buffer():
    buffer = FrameBuffer(3)
    for seconds in (1.0, 2.0, 3.0, 4.0):
        buffer.add(image_at(seconds))
    return buffer


def test_find_returns_the_frame_of_a_stamp(buffer):
    frame, anchors = buffer.find(header_at(3.0).stamp)
    assert frame.header.stamp.sec == 3
    assert anchors is None


def test_find_names_the_stamps_in_the_buffer(buffer):
    words = r"no frame of stamp 1\.0+ s: the buffer has 3 frames with stamps from 2\.0+ to 4\.0+ s; "
    words += "ask sooner, or raise frame_buffer_size"
    with pytest.raises(ConfigError, match=words):
        buffer.find(header_at(1.0).stamp)


def test_find_in_an_empty_buffer_raises():
    with pytest.raises(ConfigError, match="has 0 frames; ask sooner"):
        FrameBuffer(3).find(ZERO)


def test_a_stamp_of_zero_is_the_newest_frame(buffer):
    assert buffer.find(ZERO)[0].header.stamp.sec == 4


def test_a_stamp_of_zero_prefers_the_newest_frame_with_anchors(buffer):
    for seconds in (2.0, 3.0):
        buffer.add_anchors(header_at(seconds).stamp, ANCHORS)
    frame, anchors = buffer.find(ZERO)
    assert frame.header.stamp.sec == 3
    assert anchors is ANCHORS
    assert buffer.find(header_at(4.0).stamp)[1] is None


def test_anchors_of_a_dropped_frame_are_not_returned(buffer):
    buffer.add_anchors(header_at(1.0).stamp, ANCHORS)
    frame, anchors = buffer.find(ZERO)
    assert frame.header.stamp.sec == 4
    assert anchors is None


def test_clear_drops_frames_and_anchors(buffer):
    buffer.add_anchors(header_at(4.0).stamp, ANCHORS)
    buffer.clear()
    with pytest.raises(ConfigError):
        buffer.find(ZERO)
    buffer.add(image_at(4.0))
    assert buffer.find(ZERO)[1] is None


def test_a_size_of_zero_keeps_nothing():
    buffer = FrameBuffer(0)
    buffer.add(image_at(1.0))
    with pytest.raises(ConfigError, match="0 frames"):
        buffer.find(ZERO)
