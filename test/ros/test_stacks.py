"""Whether mapping stacks can use what the nodes publish, by the rules that docs/stacks states.

The rules are those of rtabmap_ros, nvblox, depth_image_proc and octomap_server: see stack_rules.
"""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import CAMERA, Probe, depth_of, picture
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from stack_rules import MILLISECOND, SECOND, ApproximateTime, ExactTime, NewestOfFrame, PoseCache, PoseFilter

from redepth_ros.ros.msgs.point_clouds import decode_cloud
from redepth_ros.ros.msgs.images import decode_image, encode_image
from redepth_ros.ros.streams.message_cache import nanoseconds

DEADLINE = 120.0
"""Seconds within which what must come does, on a machine that is busy with other things, too."""

RGB_OF_NVBLOX = ("rgb8", "bgra8")

FAST = {"image": Image, "depth/image": Image, "depth/camera_info": CameraInfo}
REFINED = {"refined/image": Image, "refined/depth": Image, "refined/camera_info": CameraInfo}
CLOUDS = {"depth/points": PointCloud2, "refined/points": PointCloud2}
RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT

SYNCHRONISERS = {
    "rtabmap": (ExactTime, 60, RELIABLE),
    "depth_image_proc": (ExactTime, 60, RELIABLE),
    "depth_image_proc by default": (ApproximateTime, 5, RELIABLE),
    "nvblox": (ExactTime, 10, BEST_EFFORT),
}
"""The rule by which each matches stamps, its queue, and how it may subscribe."""


# The rules: how late depth may be.


def taken_of_late_depth(rule, queue, late, apart=0, every=1):
    """Frames of which depth was taken that comes some camera frames after its image.

    Args:
        apart: nanoseconds from the image's stamp to the depth's.
        every: of how many frames one has depth.
    """
    synchroniser, period = rule(["image", "depth", "info"], queue), 33 * MILLISECOND
    for number in range(3 * queue + late):
        synchroniser.add("image", number * period, number)
        frame = number - late
        if frame >= 0 and frame % every == 0:
            for topic in ("depth", "info"):
                synchroniser.add(topic, frame * period + apart, frame)
    assert all(len(set(parts.values())) == 1 for parts in synchroniser.taken), "mixed frames"
    return [parts["image"] for parts in synchroniser.taken]


@pytest.mark.parametrize("rule", [ExactTime, ApproximateTime])
@pytest.mark.parametrize("queue", [5, 10, 60])
def test_depth_may_be_late_by_less_than_the_queue(rule, queue):
    assert taken_of_late_depth(rule, queue, queue - 1) == list(range(3 * queue))
    assert taken_of_late_depth(rule, queue, queue) == []


@pytest.mark.parametrize("rule", [ExactTime, ApproximateTime])
def test_frames_that_were_left_out_are_not_waited_for(rule):
    """The node answers the newest frame only."""
    assert taken_of_late_depth(rule, 60, 20, every=7) == list(range(0, 180, 7))


def test_stamps_of_their_own_are_matched_approximately():
    found = taken_of_late_depth(ApproximateTime, 10, 4, apart=4 * MILLISECOND)
    assert found == list(range(len(found)))
    assert len(found) >= 29
    assert taken_of_late_depth(ExactTime, 10, 4, apart=4 * MILLISECOND) == []


def test_clouds_wait_for_their_pose_five_at_once():
    poses = PoseCache()
    filtered = PoseFilter(poses)
    poses.add(100 * SECOND)
    for second in range(101, 107):
        filtered.add(second * SECOND, second)
    assert filtered.taken == []
    poses.add(106 * SECOND)
    filtered.look()
    assert filtered.taken == [102, 103, 104, 105, 106]
    poses.add(120 * SECOND)
    filtered.add(109 * SECOND, 109)
    filtered.add(111 * SECOND, 111)
    assert filtered.taken[5:] == [111]


# The nodes: what stacks get of them.


def listen(node, rule, topics, reliability):
    """Have a rule take what comes on some topics."""
    quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=reliability)
    for topic, kind in topics.items():
        node.create_subscription(
            kind, topic, lambda m, topic=topic: rule.add(topic, nanoseconds(m.header.stamp), m), quality
        )
    return rule


@contextlib.contextmanager
def robot_of(start, name, **server):
    """A probe beside both nodes of a namespace, once both are active."""
    fast = {"model": "tiny", "scale": 2.0, "max_depth": 0.7, "keyframes": "all", "keyframe_spacing": 0.0}
    start("redepth_node", fast, namespace=f"/{name}")
    common = {"model": "tiny", "scale": 2.0, "max_depth": 0.7, "prior": "tiny", "members": 1, "steps": 2}
    start("refine_server", {**common, **server}, namespace=f"/{name}")
    robot = Probe(f"/{name}/redepth_node", namespace=f"/{name}")
    robot.listen(Image, "refined/depth")
    try:
        for target in ("refine_server", "redepth_node"):
            robot.target = f"/{name}/{target}"
            assert robot.until(lambda: robot.state() == "active", DEADLINE), f"{target} is not active"
        yield robot
    finally:
        robot.executor_.shutdown()
        robot.destroy_node()


def send_until(robot, condition, make=None, at_once=3):
    """Send frames, some at once, and the next ones when depth and refined depth of these came."""

    def step():
        before = len(robot.received["refined/depth"])
        for _ in range(at_once):
            header = robot.next_header()
            stamp = robot.send(make(header) if make else None, header=header)
        robot.answer(stamp, seconds=5.0)
        robot.until(lambda: len(robot.received["refined/depth"]) > before, 3.0)
        return condition()

    assert robot.until(step, DEADLINE), "it did not come to that"


@pytest.fixture(scope="module")
def streams(start, ros):
    """What stacks get of some frames, of an rgb8 camera and then of a bgr8 one with depth in millimetres."""
    with robot_of(start, "map") as robot:
        matched = {
            (stack, source): listen(robot, rule(topics, queue), topics, reliability)
            for stack, (rule, queue, reliability) in SYNCHRONISERS.items()
            for source, topics in (("fast", FAST), ("refined", REFINED))
        }
        # As octomap_server subscribes; tf knows the poses of the last ten seconds when a cloud comes.
        poses = PoseCache()
        clouds = {topic: PoseFilter(poses) for topic in CLOUDS}

        def add_cloud(cloud, topic):
            poses.add(robot.get_clock().now().nanoseconds)
            clouds[topic].add(nanoseconds(cloud.header.stamp), cloud)

        quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=BEST_EFFORT)
        for topic, kind in CLOUDS.items():
            robot.create_subscription(kind, topic, lambda m, topic=topic: add_cloud(m, topic), quality)
        beside_fast = used_of(robot)
        found = list(matched.values()) + list(clouds.values())
        send_until(robot, lambda: all(len(one.taken) >= 3 for one in found))
        first = {key: list(one.taken) for key, one in matched.items()}

        assert robot.set_parameter("depth_encoding", "16UC1")[0]

        def bgr8(header):
            return encode_image(np.ascontiguousarray(picture()[..., ::-1]), "bgr8", header)

        since = robot.get_clock().now().nanoseconds

        def in_millimetres():
            sets = {source: matched["rtabmap", source].taken for source in ("fast", "refined")}
            return {source: [one for one in sets[source] if _stamp(one) > since] for source in sets}

        send_until(robot, lambda: all(in_millimetres().values()), bgr8)
        yield SimpleNamespace(
            sets=first, bgr8=in_millimetres(), beside_fast=beside_fast,
            clouds={topic: one.taken for topic, one in clouds.items()},
        )  # fmt: skip


def _stamp(parts):
    """The stamp of a set's first message."""
    return nanoseconds(next(iter(parts.values())).header.stamp)


@pytest.mark.parametrize("source", ["fast", "refined"])
@pytest.mark.parametrize("stack", list(SYNCHRONISERS))
def test_image_depth_and_calibration_have_one_stamp_frame_and_size(streams, stack, source):
    sets = streams.sets[stack, source]
    assert len(sets) >= 3
    for parts in sets:
        image, depth, info = parts.values()
        assert image.header == depth.header == info.header
        assert image.header.frame_id == "camera"
        assert (image.height, image.width) == (depth.height, depth.width) == (info.height, info.width)
        assert image.encoding in RGB_OF_NVBLOX
        assert depth.encoding == "32FC1"
        assert info.k[0] == info.p[0] == CAMERA.fx  # nvblox reads K, the others P


@pytest.mark.parametrize("source", ["fast", "refined"])
@pytest.mark.parametrize("stack", list(SYNCHRONISERS))
def test_stamps_of_a_frame_id_only_grow(streams, stack, source):
    stamps = [_stamp(parts) for parts in streams.sets[stack, source]]
    assert stamps == sorted(set(stamps))


@pytest.mark.parametrize(("source", "topic"), [("fast", "depth/image"), ("refined", "refined/depth")])
def test_what_is_invalid_is_nan_and_never_zero(streams, source, topic):
    for parts in streams.sets["rtabmap", source]:
        depth = depth_of(parts[topic])
        valid = np.isfinite(depth)
        assert valid.any()
        assert (~valid).any()  # max_depth sees to that
        assert np.isnan(depth[~valid]).all()
        assert (depth[valid] > 0).all()
        assert depth[valid].max() <= 0.7 + 1e-6


def test_in_millimetres_what_is_invalid_is_zero(streams):
    metres = depth_of(streams.sets["rtabmap", "fast"][0]["depth/image"])
    for parts in streams.bgr8["fast"]:
        depth = parts["depth/image"]
        assert depth.encoding == "16UC1"
        millimetres = depth_of(depth)
        valid = millimetres > 0
        np.testing.assert_array_equal(valid, np.isfinite(metres))
        np.testing.assert_allclose(millimetres[valid] * 1e-3, metres[valid], atol=2e-3)


def test_a_bgr8_camera_is_rgb8_where_it_is_refined(streams):
    """nvblox takes no bgr8: that is why it gets no colours of the fast stream."""
    for parts in streams.bgr8["fast"]:
        assert parts["image"].encoding not in RGB_OF_NVBLOX
    for parts in streams.bgr8["refined"]:
        assert parts["refined/image"].encoding in RGB_OF_NVBLOX
        np.testing.assert_array_equal(decode_image(parts["refined/image"]), picture())
        assert parts["refined/depth"].encoding == "32FC1"
        assert np.isnan(depth_of(parts["refined/depth"])).any()


@pytest.mark.parametrize("topic", list(CLOUDS))
def test_clouds_are_organised_and_what_is_invalid_is_nan(streams, topic):
    assert streams.clouds[topic]
    for cloud in streams.clouds[topic]:
        assert (cloud.height, cloud.width) == (CAMERA.height, CAMERA.width)
        assert cloud.header.frame_id == "camera"
        assert not cloud.is_dense
        points = decode_cloud(cloud)
        valid = np.isfinite(points).all(axis=1)
        assert valid.any()
        assert np.isnan(points[~valid]).all()
        np.testing.assert_array_less(0.0, points[valid][:, 2])


def used_of(robot):
    """Refined depth as it comes, and what nvblox would use of it where it gets fast depth, too."""
    nvblox, refined = NewestOfFrame(), []

    def add(message, kept=None):
        nvblox.add(message.header.frame_id, nanoseconds(message.header.stamp), message)
        if kept is not None:
            kept.append((message, nvblox.taken[-1:] == [message]))

    robot.create_subscription(Image, "depth/image", add, 10)
    robot.create_subscription(Image, "refined/depth", lambda m: add(m, refined), 10)
    return refined


def test_beside_the_fast_stream_late_frames_are_dropped(streams):
    """nvblox drops a frame that is not newer than the last of its frame_id, whatever the topic."""
    assert streams.beside_fast
    assert not any(used for _, used in streams.beside_fast)


def test_with_a_frame_of_its_own_a_late_stream_is_used_beside_the_fast_one(start, ros):
    with robot_of(start, "both", refined_frame_id="late") as robot:
        refined = used_of(robot)
        send_until(robot, lambda: len(refined) >= 2, at_once=1)
        assert {message.header.frame_id for message, _ in refined} == {"late"}
        assert all(used for _, used in refined)


def test_keyframes_that_tf_has_forgotten_are_not_published(start, ros):
    """tf2 keeps 10 s, and max_age is 8 s in the launch file."""
    with robot_of(start, "age", max_age=8.0) as robot:
        began, age = robot.get_clock().now().nanoseconds, 60 * SECOND
        robot.target = "/age/refine_server"

        def send_old():
            """Frames that are a minute old, each a little later than the one before."""
            nonlocal age
            age -= 10 * MILLISECOND
            header = robot.next_header()
            header.stamp.sec, header.stamp.nanosec = divmod(began - age, SECOND)
            robot.send(header=header)

        def stamps():
            return [nanoseconds(message.header.stamp) for message in robot.received["refined/depth"]]

        def too_old():
            send_old()
            values = robot.diagnosis(seconds=3.0)
            return values is not None and int(values[2]["too old"]) >= 2

        assert robot.until(too_old, DEADLINE), "no keyframe was refused"
        assert stamps() == []
        # With no limit the same ones come, and tf has no pose for them any more.
        assert robot.set_parameter("max_age", 0.0)[0]
        poses = PoseCache()
        for back in range(20, -1, -1):
            poses.add(began - back * SECOND)
        assert robot.until(lambda: (send_old(), robot.until(stamps, 3.0))[1], DEADLINE)
        assert not any(poses.knows(stamp) for stamp in stamps())
        # Those of now come with the limit as well.
        assert robot.set_parameter("max_age", 8.0)[0]
        forgotten = len(stamps())
        send_until(robot, lambda: len(stamps()) > forgotten and max(stamps()) >= began)
