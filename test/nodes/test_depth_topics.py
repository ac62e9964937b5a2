"""The topics depth/* of a node in this process."""

import dataclasses
import time

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from fakes import CAMERA, Graph, depth_array, header_at, image_at, sample_image
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from redepth_ros.core.metric.scale import Scale
from redepth_ros.nodes.depth_topics import DepthTopics, millimetres
from redepth_ros.nodes.fast_pipeline import DepthFrame
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.nodes.stream_statistics import StreamStatistics
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.streams.calibration_cache import CalibrationCache

DEPTH = torch.linspace(0.5, 4.0, 24 * 32).reshape(24, 32)
DEPTH[0, :4] = torch.nan


def frame_at(seconds, **settings):
    return DepthFrame(
        image_at(seconds),
        time.monotonic() - 0.5,
        DepthSettings(**settings),
        sample_image(),
        DEPTH,
        0.1 * DEPTH,
        Scale(),
        None,
        None,
    )


class Setup:
    """The topics of an active lifecycle node, and a listener."""

    def __init__(self):
        self.node = LifecycleNode("topics", namespace="/topics")
        self.graph = Graph(self.node)
        self.warnings, self.camera_infos = [], CalibrationCache(10, "/camera_info", print)
        self.statistics = StreamStatistics()
        self.topics = DepthTopics(self.node, self.camera_infos, self.statistics, self.warnings.append)
        self.node.trigger_configure()
        self.node.trigger_activate()

    def listen(self, kind, *topics):
        self.graph.listen(self.node, kind, *topics)
        for topic in topics:
            assert self.graph.until(lambda topic=topic: self.node.count_publishers(topic))
            publisher = next(p for p in self.node.publishers if p.topic_name.endswith(topic))
            assert self.graph.until(publisher.get_subscription_count)

    def publish(self, seconds=1.0, info_at=1.0, **settings):
        if info_at:
            self.camera_infos.add(camera_to_msg(CAMERA, header_at(info_at)))
        return self.topics.publish(frame_at(seconds, **settings))

    def one(self, topic):
        return self.graph.until(lambda: self.graph.received[topic])[0]


@pytest.fixture
def setup(ros):
    setup = Setup()
    setup.listen(Image, "depth/image")
    yield setup
    setup.graph.close()


def test_depth_has_the_header_and_the_values_of_the_frame(setup):
    setup.publish()
    message = setup.one("depth/image")
    assert (message.header, message.encoding) == (header_at(1.0), "32FC1")
    np.testing.assert_array_equal(depth_array(message), DEPTH.numpy())
    assert setup.statistics.published.total == 1
    assert 0.5 <= setup.statistics.latency.percentile(50) < 5.0


def test_depth_in_millimetres_on_demand(setup):
    setup.publish(depth_encoding="16UC1")
    message = setup.one("depth/image")
    assert message.encoding == "16UC1"
    np.testing.assert_array_equal(depth_array(message), millimetres(DEPTH))


def test_millimetres_are_zero_where_invalid_or_out_of_range():
    depth = torch.tensor([[1.0, torch.nan, -1.0, 0.0], [65.535, 65.536, 0.0004, 0.0016]])
    assert millimetres(depth).tolist() == [[1000, 0, 0, 0], [65535, 0, 0, 2]]


def test_the_calibration_is_published_under_the_images_header(setup):
    setup.listen(CameraInfo, "depth/camera_info")
    found = setup.publish(info_at=0.995)
    info = setup.one("depth/camera_info")
    assert info == found
    assert info.header == header_at(1.0)
    assert (info.k[0], info.p[5], info.width) == (CAMERA.fx, CAMERA.fy, CAMERA.width)
    assert not setup.warnings


def test_without_a_calibration_there_is_depth_and_a_warning(setup):
    setup.listen(CameraInfo, "depth/camera_info")
    setup.listen(PointCloud2, "depth/points")
    assert setup.publish(info_at=0.98) is None
    assert setup.one("depth/image")
    setup.graph.spin(0.1)
    assert not setup.graph.received["depth/camera_info"] + setup.graph.received["depth/points"]
    assert setup.warnings[0].startswith("no camera_info for an image, thus neither depth/camera_info")
    assert "the nearest message on /camera_info is 0.020 s away, more than" in setup.warnings[0]


def test_the_tolerance_of_the_calibration_is_a_parameter(setup):
    assert setup.publish(info_at=0.98, camera_info_tolerance=0.03) is not None


def test_a_calibration_of_another_size_is_a_warning(setup):
    other = camera_to_msg(dataclasses.replace(CAMERA, width=640), header_at(1.0))
    setup.camera_infos.add(other)
    assert setup.publish(info_at=0) is None
    assert "camera_info is not used: " in setup.warnings[0]
    assert "640x24 pixels" in setup.warnings[0]


def test_colours_points_and_standard_deviation_are_published_for_subscribers(setup):
    assert not setup.topics.needs_stddev()
    setup.listen(Image, "depth/color", "depth/stddev")
    setup.listen(PointCloud2, "depth/points")
    assert setup.topics.needs_stddev()
    setup.publish()
    np.testing.assert_array_equal(depth_array(setup.one("depth/stddev")), 0.1 * DEPTH.numpy())
    assert setup.one("depth/color").encoding == "rgb8"
    cloud = setup.one("depth/points")
    points = np.frombuffer(cloud.data, np.float32).reshape(24, 32, 4)
    depth = DEPTH.numpy()
    np.testing.assert_array_equal(points[..., 2], depth)
    np.testing.assert_allclose(points[10, 20, 0], depth[10, 20] * (20 - CAMERA.cx) / CAMERA.fx, rtol=1e-5)
    np.testing.assert_allclose(points[10, 20, 1], depth[10, 20] * (10 - CAMERA.cy) / CAMERA.fy, rtol=1e-5)
    r, g, b = (int(value) for value in sample_image()[10, 20])
    colours = np.frombuffer(cloud.data, np.uint32).reshape(24, 32, 4)[..., 3]
    assert colours[10, 20] == (r << 16 | g << 8 | b)
    headers = {str(setup.one(topic).header) for topic in ("depth/stddev", "depth/color", "depth/points")}
    assert headers == {str(header_at(1.0))}


def test_compressed_depth_is_published_for_subscribers(setup):
    setup.listen(CompressedImage, "depth/image/compressedDepth")
    setup.publish(max_depth=50.0)
    message = setup.one("depth/image/compressedDepth")
    assert message.format == "32FC1; compressedDepth png"
    assert message.header == header_at(1.0)
    assert len(message.data) < DEPTH.numel() * 4
