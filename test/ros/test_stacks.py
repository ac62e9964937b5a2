"""What mapping stacks ask of their inputs, checked by stand-ins: the stacks themselves are not on PyPI.

The rules are those that docs/stacks states, of rtabmap_ros, nvblox, depth_image_proc and octomap_server.
"""

from collections import OrderedDict

import numpy as np
import pytest
from conftest import CAMERA, Probe, depth_of
from geometry_msgs.msg import PoseStamped
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from redepth_ros.ros.clouds import decode_cloud
from redepth_ros.ros.stamps import nanoseconds

TF_CACHE = 10.0
"""Seconds that tf2 keeps by default."""

SLOP = 0.01
"""Seconds that stamps may lie apart: RTAB-Map warns above it."""
POSE_AFTER = 4_000_000
"""Nanoseconds from an image's stamp to that of the pose after it."""


class ExactTime:
    """message_filters' exact synchroniser: a set once all topics have a stamp, ten stamps in its queue."""

    def __init__(self, node, topics, reliability=ReliabilityPolicy.RELIABLE, queue=10):
        self.sets = []
        self._queue, self._size, self._parts = OrderedDict(), queue, len(topics)
        quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=queue, reliability=reliability)
        for topic, kind in topics.items():
            node.create_subscription(kind, topic, lambda m, topic=topic: self._add(topic, m), quality)

    def _add(self, topic, message):
        stamp = nanoseconds(message.header.stamp)
        parts = self._queue.setdefault(stamp, {})
        parts[topic] = message
        if len(parts) == self._parts:
            self.sets.append(self._queue.pop(stamp))
        while len(self._queue) > self._size:
            self._queue.popitem(last=False)


class ApproximateTime:
    """message_filters' approximate synchroniser of two topics: the nearest stamp within a slop."""

    def __init__(self, node, topics, slop, queue=10):
        self.sets = []
        self._slop, self._size = slop, queue
        self._queues = {topic: {} for topic in topics}
        for topic, kind in topics.items():
            node.create_subscription(kind, topic, lambda m, topic=topic: self._add(topic, m), queue)

    def _add(self, topic, message):
        stamp = nanoseconds(message.header.stamp)
        (other,) = (name for name in self._queues if name != topic)
        nearest = min(self._queues[other], key=lambda one: abs(one - stamp), default=None)
        if nearest is not None and abs(nearest - stamp) * 1e-9 <= self._slop:
            self.sets.append({topic: message, other: self._queues[other].pop(nearest)})
            return
        queue = self._queues[topic]
        queue[stamp] = message
        if len(queue) > self._size:
            del queue[min(queue)]


FAST = {"image": Image, "depth/image": Image, "depth/camera_info": CameraInfo}
REFINED = {"refined/image": Image, "refined/depth": Image, "refined/camera_info": CameraInfo}
CLOUDS = {"depth/points": PointCloud2, "refined/points": PointCloud2}


@pytest.fixture(scope="module")
def streams(start, ros):
    """What stacks get of some frames, each of them a keyframe where the server is free."""
    common = {"model": "tiny", "scale": 2.0, "max_depth": 0.7}
    keyframes = {"keyframes": "all", "keyframe_spacing": 0.0}
    start("redepth_node", {**common, **keyframes}, namespace="/map")
    start("refine_server", {**common, "prior": "tiny", "members": 1, "steps": 2}, namespace="/map")
    robot = Probe("/map/redepth_node", namespace="/map")
    found = {
        "fast": ExactTime(robot, FAST),
        "fast, best effort": ExactTime(robot, FAST, ReliabilityPolicy.BEST_EFFORT),
        "refined": ExactTime(robot, REFINED),
        "refined, best effort": ExactTime(robot, REFINED, ReliabilityPolicy.BEST_EFFORT),
    }
    poses = robot.create_publisher(PoseStamped, "pose", 10)
    near = {
        topic: ApproximateTime(robot, {topic: Image, "pose": PoseStamped}, SLOP)
        for topic in ("depth/image", "refined/depth")
    }
    clouds = {topic: [] for topic in CLOUDS}
    arrived = {}
    for topic, kind in CLOUDS.items():
        robot.create_subscription(kind, topic, clouds[topic].append, 10)
    robot.create_subscription(
        Image, "refined/depth",
        lambda m: arrived.update({nanoseconds(m.header.stamp): robot.get_clock().now().nanoseconds}), 10,
    )  # fmt: skip
    robot.wait_until_served()
    for _ in range(60):
        header = robot.next_header()
        robot.send(header=header)
        later = nanoseconds(header.stamp) + POSE_AFTER
        pose = PoseStamped()
        pose.header.stamp.sec, pose.header.stamp.nanosec = divmod(later, 1_000_000_000)
        poses.publish(pose)
        robot.spin(0.25)
        if len(found["refined"].sets) >= 4 and len(found["fast"].sets) >= 12:
            break
    robot.spin(1.0)
    robot.executor_.shutdown()
    robot.destroy_node()
    return found, clouds, arrived, near


@pytest.mark.parametrize("name", ["fast", "fast, best effort", "refined", "refined, best effort"])
def test_image_depth_and_calibration_have_one_stamp_frame_and_size(streams, name):
    sets = streams[0][name].sets
    assert len(sets) >= 3
    for parts in sets:
        image, depth, info = parts.values()
        assert image.header == depth.header == info.header
        assert (image.height, image.width) == (depth.height, depth.width) == (info.height, info.width)
        assert image.encoding == "rgb8"
        assert depth.encoding == "32FC1"
        assert info.k[0] == CAMERA.fx
        assert info.p[0] == CAMERA.fx


@pytest.mark.parametrize("topic", ["depth/image", "refined/depth"])
def test_depth_finds_what_has_stamps_of_its_own(streams, topic):
    """Approximate matching, with ten in the queue: late depth still finds the pose of its stamp."""
    sets = streams[3][topic].sets
    assert len(sets) >= 3
    for parts in sets:
        depth, pose = (nanoseconds(parts[name].header.stamp) for name in (topic, "pose"))
        assert pose - depth == POSE_AFTER


@pytest.mark.parametrize("name", ["fast", "refined"])
def test_stamps_of_a_frame_id_only_grow(streams, name):
    stamps = [nanoseconds(next(iter(parts.values())).header.stamp) for parts in streams[0][name].sets]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(("name", "topic"), [("fast", "depth/image"), ("refined", "refined/depth")])
def test_what_is_invalid_is_nan_and_never_zero(streams, name, topic):
    for parts in streams[0][name].sets:
        depth = depth_of(parts[topic])
        valid = np.isfinite(depth)
        assert valid.any()
        assert (~valid).any()  # max_depth sees to that
        assert np.isnan(depth[~valid]).all()
        assert (depth[valid] > 0).all()
        assert depth[valid].max() <= 0.7 + 1e-6


def test_refined_keyframes_come_while_tf_still_has_their_pose(streams):
    assert streams[2]
    ages = [(now - stamp) * 1e-9 for stamp, now in streams[2].items()]
    assert max(ages) < TF_CACHE


@pytest.mark.parametrize("topic", list(CLOUDS))
def test_clouds_are_organised_and_what_is_invalid_is_nan(streams, topic):
    clouds = streams[1][topic]
    assert clouds
    for cloud in clouds:
        assert (cloud.height, cloud.width) == (CAMERA.height, CAMERA.width)
        assert not cloud.is_dense
        points = decode_cloud(cloud)
        valid = np.isfinite(points).all(axis=1)
        assert valid.any()
        assert np.isnan(points[~valid]).all()
        np.testing.assert_array_less(0.0, points[valid][:, 2])


def test_a_late_stream_may_have_a_frame_of_its_own(start, ros):
    """nvblox drops a frame that is not newer than the last of its frame_id, whatever the topic."""
    settings = {"model": "tiny", "prior": "tiny", "members": 1, "steps": 2, "refined_frame_id": "late"}
    start("refine_server", settings, namespace="/late")
    start("redepth_node", {"model": "tiny", "keyframes": "all", "keyframe_spacing": 0.0}, namespace="/late")
    robot = Probe("/late/redepth_node", namespace="/late")
    try:
        pairs = ExactTime(robot, REFINED)
        robot.wait_until_served()
        for _ in range(60):
            robot.send()
            robot.spin(0.25)
            if pairs.sets:
                break
        assert {m.header.frame_id for parts in pairs.sets for m in parts.values()} == {"late"}
        assert pairs.sets
    finally:
        robot.executor_.shutdown()
        robot.destroy_node()
