"""Transforms of points; tf2_ros itself is not on PyPI, so that a stand-in takes its place there."""

import sys
import types

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import Graph, header_at
from geometry_msgs.msg import TransformStamped

from redepth_ros.core.errors import AnchorError
from redepth_ros.ros.streams import transforms
from redepth_ros.ros.streams.transforms import Transforms, rotation_matrix

POINTS = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0]])


class FakeTf2(types.ModuleType):
    """tf2_ros with one transform, whose lookups are recorded and may fail first."""

    class TransformException(Exception):  # noqa: N818
        pass

    class ExtrapolationException(TransformException):
        pass

    def __init__(self):
        super().__init__("tf2_ros")
        self.lookups, self.errors = [], []
        self.found = TransformStamped()
        self.found.transform.translation.z = 0.5
        self.found.transform.rotation.w = 1.0
        self.Buffer = lambda node: self
        self.TransformListener = lambda buffer, node: self

    def lookup_transform(self, *arguments):
        return self._look_up("simple", *arguments)

    def lookup_transform_full(self, *arguments):
        return self._look_up("full", *arguments)

    def _look_up(self, *arguments):
        self.lookups.append(arguments)
        if self.errors:
            raise self.errors.pop(0)
        return self.found


@pytest.fixture
def tf2(monkeypatch):
    module = FakeTf2()
    monkeypatch.setitem(sys.modules, "tf2_ros", module)
    return module


def test_points_of_the_target_frame_need_no_tf2(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    found = Transforms(None).apply(POINTS, header_at(1.0), header_at(2.0))
    assert found is POINTS


def test_other_frames_without_tf2_are_an_error_with_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(AnchorError, match=r"'lidar' are needed in 'camera'.*tf2-ros-py"):
        Transforms(None).apply(POINTS, header_at(1.0, "lidar"), header_at(1.0))


def test_points_are_rotated_and_translated(tf2):
    half = np.sqrt(0.5)
    rotation = tf2.found.transform.rotation
    rotation.z, rotation.w = half, half  # 90 degrees about z: x becomes y
    found = Transforms(None).apply(POINTS, header_at(1.0, "lidar"), header_at(2.0))
    np.testing.assert_allclose(found, [[-2.0, 1.0, 3.5], [0.0, 0.0, 1.5]], atol=1e-12)
    kind, target, source, stamp, _ = tf2.lookups[0]
    assert (kind, target, source, stamp.nanoseconds) == ("simple", "camera", "lidar", 1_000_000_000)


def test_a_fixed_frame_compensates_motion_between_the_stamps(tf2):
    found = Transforms(None, "odom").apply(POINTS, header_at(1.0), header_at(2.0))
    np.testing.assert_allclose(found, POINTS + np.array([0.0, 0.0, 0.5]))
    kind, target, target_time, source, source_time, fixed, _ = tf2.lookups[0]
    assert (kind, target, source, fixed) == ("full", "camera", "camera", "odom")
    assert (target_time.nanoseconds, source_time.nanoseconds) == (2_000_000_000, 1_000_000_000)


def test_equal_stamps_need_no_compensation(tf2):
    assert Transforms(None, "odom").apply(POINTS, header_at(1.0), header_at(1.0)) is POINTS
    Transforms(None, "odom").apply(POINTS, header_at(1.0, "lidar"), header_at(1.0))
    assert tf2.lookups[0][0] == "simple"


def test_a_transform_that_is_late_is_waited_for(tf2):
    tf2.errors = [FakeTf2.ExtrapolationException("too new")]
    Transforms(None).apply(POINTS, header_at(1.0, "lidar"), header_at(1.0))
    assert [lookup[-1].nanoseconds for lookup in tf2.lookups] == [0, transforms.TIMEOUT.nanoseconds]


def test_an_unknown_frame_is_an_error_without_waiting(tf2):
    tf2.errors = [FakeTf2.TransformException("no such frame")]
    with pytest.raises(AnchorError, match="from 'lidar' to 'camera': no such frame"):
        Transforms(None).apply(POINTS, header_at(1.0, "lidar"), header_at(1.0))
    assert len(tf2.lookups) == 1


@pytest.mark.parametrize("quaternion", [(0.5, -0.5, 0.5, 0.5), (0.1, 0.7, -0.1, 0.7)])
def test_rotation_matrix_is_orthonormal(quaternion):
    quaternion = np.array(quaternion) / np.linalg.norm(quaternion)
    matrix = rotation_matrix(*quaternion)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    np.testing.assert_allclose(matrix @ quaternion[:3], quaternion[:3])  # the axis stays


# tf2 itself, where a ROS is sourced.


@pytest.fixture
def graph(ros):
    graph = Graph(rclpy.create_node("transformed", namespace="/transformed"))
    yield graph
    graph.close()


def transform(parent, child, header, z=0.0, rotation=(0.0, 0.0, 0.0, 1.0)):
    found = TransformStamped(child_frame_id=child, header=header)
    found.header.frame_id = parent
    found.transform.translation.z = z
    quaternion = found.transform.rotation
    quaternion.x, quaternion.y, quaternion.z, quaternion.w = rotation
    return found


def apply_once_known(graph, transforms, source, target):
    """Apply a transform as soon as tf2 knows it."""

    def apply():
        try:
            return [transforms.apply(POINTS, source, target)]
        except AnchorError:
            return []

    (found,) = graph.until(apply)
    return found


def test_tf2_transforms_a_lidar_that_is_mounted_on_the_camera(graph):
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not on PyPI")
    node = graph.nodes[0]
    mounted = transform("camera", "velodyne", header_at(0.0), 0.5, (0.5, -0.5, 0.5, 0.5))
    tf2_ros.StaticTransformBroadcaster(node).sendTransform(mounted)
    for _ in range(2):  # a node that was cleaned up listens again
        transforms = Transforms(node)
        found = apply_once_known(graph, transforms, header_at(1.0, "velodyne"), header_at(1.0))
        x, y, z = POINTS.T  # forward, left, up
        np.testing.assert_allclose(found, np.stack((-y, -z, x + 0.5), axis=1), atol=1e-9)
        transforms.destroy()


def test_tf2_compensates_motion_by_the_fixed_frame(graph):
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not on PyPI")
    node = graph.nodes[0]
    transforms = Transforms(node, "odom")
    broadcaster = tf2_ros.TransformBroadcaster(node)
    assert graph.until(lambda: node.count_subscribers("/tf") > 0)
    for seconds, z in ((1.0, 0.0), (2.0, 0.5)):
        broadcaster.sendTransform(transform("odom", "camera", header_at(seconds), z))
    found = apply_once_known(graph, transforms, header_at(1.0), header_at(2.0))
    np.testing.assert_allclose(found, POINTS - np.array([0.0, 0.0, 0.5]), atol=1e-9)
    transforms.destroy()
