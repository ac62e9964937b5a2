"""Anchors of an image, from messages that are stored as the executor does."""

import threading
import time

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import CAMERA, FakeClock, header_at
from sensor_msgs.msg import PointCloud2

from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.point_clouds import points_to_msg
from redepth_ros.ros.streams import anchor_input
from redepth_ros.ros.streams.anchor_input import AnchorInput


def measured_at(seconds: float, depth: float = 2.0):
    """Return a depth image with one value."""
    return image_to_msg(np.full((24, 32), depth, np.float32), "32FC1", header_at(seconds))


def cloud_at(seconds: float, frame_id: str = "camera") -> PointCloud2:
    """Return a cloud with one point per pixel, 3 m away."""
    v, u = np.mgrid[0:24, 0:32].astype(np.float32)
    z = np.full_like(u, 3.0)
    points = np.stack(((u - CAMERA.cx) / CAMERA.fx * z, (v - CAMERA.cy) / CAMERA.fy * z, z))
    image = np.zeros((24, 32, 3), np.uint8)
    return points_to_msg(points.astype(np.float32), image, header_at(seconds, frame_id))


@pytest.fixture
def node(ros):
    node = rclpy.create_node("anchored")
    yield node
    node.destroy_node()


@pytest.fixture
def sensor(node):
    sensor = AnchorInput(node, "depth", 0.05, "")
    yield sensor
    sensor.destroy()


@pytest.fixture
def lidar(node):
    lidar = AnchorInput(node, "points", 0.05, "")
    yield lidar
    lidar.destroy()


def depth_of(sensor, seconds):
    found = sensor.anchors(header_at(seconds), 24, 32, None)
    return found and float(found.depth[0])


def test_a_slow_network_finds_the_anchors_of_an_old_image(sensor):
    """The image is 1.5 s old, the sensor has 30 Hz."""
    for number in range(60):
        sensor.add(measured_at(number / 30.0, 1.0 + number))
    assert depth_of(sensor, 15 / 30.0) == 16.0
    assert sensor.stamp_distance == 0.0


def test_a_measurement_is_used_once(sensor):
    sensor.add(measured_at(1.0))
    assert depth_of(sensor, 0.99) == 2.0
    assert depth_of(sensor, 1.0) is None
    sensor.add(measured_at(1.1, 3.0))
    assert depth_of(sensor, 1.1) == 3.0


def test_stamps_beyond_the_tolerance_are_not_matched(sensor):
    sensor.add(measured_at(1.0))
    assert depth_of(sensor, 1.06) is None
    assert sensor.stamp_distance == pytest.approx(0.06)
    assert depth_of(sensor, 1.05) == 2.0


def test_anchors_that_arrive_after_the_image_are_waited_for(sensor, monkeypatch):
    """Although those of the image before are within the tolerance."""
    monkeypatch.setattr(anchor_input, "TIMEOUT", 20.0)  # for a busy machine; the wait ends earlier
    sensor.add(measured_at(1.0, 1.0))
    assert depth_of(sensor, 1.0) == 1.0
    late = threading.Timer(0.2, sensor.add, (measured_at(1.033, 2.0),))
    late.start()
    assert depth_of(sensor, 1.033) == 2.0
    late.join()


def test_a_sensor_with_its_own_stamps_is_not_waited_for(sensor, monkeypatch):
    monkeypatch.setattr(anchor_input, "TIMEOUT", 600.0)
    sensor.add(measured_at(1.01, 1.0))
    assert depth_of(sensor, 1.0) == 1.0
    sensor.add(measured_at(1.11, 2.0))
    assert depth_of(sensor, 1.1) == 2.0


def test_a_silent_topic_and_different_clocks_are_errors(sensor, monkeypatch):
    assert depth_of(sensor, 1.0) is None  # just subscribed: a message may still arrive
    sensor.add(measured_at(50.0))
    with pytest.raises(AnchorError, match=r"are 49\.0 s from those of the images: synchronise the clocks"):
        depth_of(sensor, 1.0)
    clock = FakeClock(time.monotonic() + 10.0)
    monkeypatch.setattr(time, "monotonic", clock)
    with pytest.raises(AnchorError, match=r"no message on /anchors/depth for 2 s"):
        depth_of(sensor, 1.0)


def test_a_depth_image_without_pixels_is_an_error(sensor):
    message = measured_at(1.0)
    message.height = message.width = message.step = 0
    sensor.add(message)
    with pytest.raises(ImageError, match="0x0 pixels"):
        depth_of(sensor, 1.0)


def test_points_are_projected_with_the_camera(lidar):
    lidar.add(cloud_at(1.0))
    anchors = lidar.anchors(header_at(1.0), 24, 32, CAMERA)
    assert len(anchors) == 24 * 32
    assert (anchors.height, anchors.width) == (24, 32)
    np.testing.assert_allclose(anchors.depth, 3.0, rtol=1e-6)


def test_points_need_a_camera(lidar):
    lidar.add(cloud_at(1.0))
    with pytest.raises(AnchorError, match="anchors is points, and the image has no camera_info"):
        lidar.anchors(header_at(1.0), 24, 32, None)


def test_points_of_another_frame_need_tf(lidar):
    lidar.add(cloud_at(1.0, "velodyne"))
    with pytest.raises(AnchorError, match="'velodyne'"):
        lidar.anchors(header_at(1.0), 24, 32, CAMERA)
