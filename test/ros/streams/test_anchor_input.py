"""Which anchors an image gets: messages as the executor files them, without a graph."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from std_msgs.msg import Header

from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.ros import anchor_input
from redepth_ros.ros.streams.anchor_input import AnchorInput
from redepth_ros.ros.msgs.images import encode_image


def header_at(seconds: float) -> Header:
    header = Header(frame_id="camera")
    header.stamp.sec, header.stamp.nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
    return header


def measured_at(seconds: float, depth: float = 2.0):
    """A depth image whose depth tells its stamp."""
    return encode_image(np.full((24, 32), depth, np.float32), "32FC1", header_at(seconds))


@pytest.fixture
def sensor(ros):
    node = rclpy.create_node("anchored")
    yield AnchorInput(node, "depth", 0.05, "")
    node.destroy_node()


def depth_of(sensor, seconds):
    found = sensor.of(header_at(seconds), 24, 32, None)
    return found and float(found.depth[0])


def test_a_slow_network_finds_the_anchors_of_an_image_of_long_ago(sensor):
    """1.5 s ago, with a sensor of 30 Hz."""
    for number in range(60):
        sensor._file(measured_at(number / 30.0, 1.0 + number))
    assert depth_of(sensor, 15 / 30.0) == 16.0
    assert sensor.apart == 0.0


def test_a_measurement_counts_once(sensor):
    sensor._file(measured_at(1.0))
    assert depth_of(sensor, 0.99) == 2.0
    assert depth_of(sensor, 1.0) is None
    sensor._file(measured_at(1.1, 3.0))
    assert depth_of(sensor, 1.1) == 3.0


def test_anchors_that_come_a_little_after_the_image_are_waited_for(sensor, monkeypatch):
    """Not those of the image before, which are within the tolerance."""
    monkeypatch.setattr(anchor_input, "PATIENCE", 20.0)  # of a loaded machine; it ends as they come
    sensor._file(measured_at(1.0, 1.0))
    assert depth_of(sensor, 1.0) == 1.0
    late = threading.Timer(0.2, sensor._file, (measured_at(1.033, 2.0),))
    late.start()
    assert depth_of(sensor, 1.033) == 2.0
    late.join()


def test_a_sensor_with_stamps_of_its_own_is_not_waited_for(sensor, monkeypatch):
    monkeypatch.setattr(anchor_input, "PATIENCE", 600.0)
    sensor._file(measured_at(1.01, 1.0))
    assert depth_of(sensor, 1.0) == 1.0
    sensor._file(measured_at(1.11, 2.0))
    assert depth_of(sensor, 1.1) == 2.0


def test_silence_and_other_clocks_are_said(sensor, monkeypatch):
    assert depth_of(sensor, 1.0) is None  # just subscribed: something may come yet
    sensor._file(measured_at(50.0))
    with pytest.raises(AnchorError, match=r"are 49\.0 s from the image's: set the clocks"):
        depth_of(sensor, 1.0)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10.0)
    with pytest.raises(AnchorError, match=r"nothing came on /anchors/depth for 2 s"):
        depth_of(sensor, 1.0)


def test_a_depth_image_without_pixels_is_refused(sensor):
    message = measured_at(1.0)
    message.height = message.width = message.step = 0
    sensor._file(message)
    with pytest.raises(ImageError, match="0x0 pixels"):
        depth_of(sensor, 1.0)
