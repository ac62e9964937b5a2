"""Mapping stacks can use the topics of the nodes, by the rules that docs/how-to states.

The rules are those of rtabmap_ros, nvblox, depth_image_proc and octomap_server, see stack_rules.
"""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("rclpy")

from graph import CAMERA, depth_array, sample_image
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from stack_rules import MILLISECOND, SECOND, ApproximateTime, ExactTime, NewestOfFrame, PoseCache, PoseFilter
from std_msgs.msg import Header

from redepth_ros.ros.msgs.images import image_from_msg, image_to_msg
from redepth_ros.ros.msgs.point_clouds import points_from_msg
from redepth_ros.ros.msgs.time import nanoseconds, time_from_nanoseconds

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
"""The rule by which each one matches stamps, its queue, and the reliability of its subscriptions."""


# The rules: the largest delay of depth.


def taken_of_late_depth(rule, queue, late, apart=0, every=1):
    """Return the frames that are matched with depth that arrives `late` frames after its image.

    Args:
        apart: nanoseconds from the image's stamp to the depth's.
        every: one frame of so many has depth.
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
def test_frames_without_depth_are_not_waited_for(rule):
    """The node processes the newest frame only."""
    assert taken_of_late_depth(rule, 60, 20, every=7) == list(range(0, 180, 7))


def test_different_stamps_are_matched_approximately():
    found = taken_of_late_depth(ApproximateTime, 10, 4, apart=4 * MILLISECOND)
    assert found == list(range(len(found)))
    assert len(found) >= 29
    assert taken_of_late_depth(ExactTime, 10, 4, apart=4 * MILLISECOND) == []


def test_five_clouds_wait_for_their_pose():
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


# The nodes: the topics that stacks receive.


def listen(node, rule, topics, reliability):
    """Pass the messages of some topics to a rule."""
    quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=10, reliability=reliability)
    for topic, kind in topics.items():
        node.create_subscription(
            kind, topic, lambda m, topic=topic: rule.add(topic, nanoseconds(m.header.stamp), m), quality
        )
    return rule


@contextmanager
def as_pair(probe, client):
    """Both nodes with depth in metres up to 0.7 m, and every possible frame as a keyframe."""
    probe.listen(Image, "refined/depth")
    for node in (probe, client):
        assert node.set_parameters(scale=2.0, max_depth=0.7)[0]
    assert client.set_parameters(steps=2)[0]
    assert probe.set_parameters(keyframes="all", keyframe_min_interval=0.0)[0]
    yield probe
    assert probe.set_parameters(keyframes="none", keyframe_min_interval=1.0, depth_encoding="32FC1")[0]
    assert client.set_parameters(steps=4, refined_frame_id="", max_age=0.0)[0]
    for node in (probe, client):
        assert node.set_parameters(scale=1.0, max_depth=1000.0)[0]
    probe.diagnostics(lambda values: values["keyframes sent"] == values["keyframes ended"])


def send_until(probe, condition, make=None, at_once=3):
    """Send frames, some at once, and the next ones after depth and refined depth have arrived."""

    def step():
        before = len(probe.received["refined/depth"])
        for _ in range(at_once):
            header = probe.next_header()
            stamp = probe.send(make(header) if make else None, header=header)
        probe.until(lambda: probe.at_stamp("depth/image", stamp), 5.0)
        probe.until(lambda: len(probe.received["refined/depth"]) > before, 3.0)
        return condition()

    assert probe.until(step), "the condition is not met"


@pytest.fixture
def pair(probe, client):
    with as_pair(probe, client):
        yield probe


@pytest.fixture(scope="module")
def streams(shared_probe, shared_client):
    """The messages that stacks match, of an rgb8 camera and then of a bgr8 one with depth in millimetres."""
    with as_pair(shared_probe, shared_client):
        return collect_streams(shared_probe)


def collect_streams(probe):
    matched = {
        (stack, source): listen(probe, rule(topics, queue), topics, reliability)
        for stack, (rule, queue, reliability) in SYNCHRONISERS.items()
        for source, topics in (("fast", FAST), ("refined", REFINED))
    }
    # As octomap_server subscribes; tf knows the poses of the last ten seconds when a cloud arrives.
    poses = PoseCache()
    clouds = {topic: PoseFilter(poses) for topic in CLOUDS}

    def add_cloud(cloud, topic):
        poses.add(probe.get_clock().now().nanoseconds)
        clouds[topic].add(nanoseconds(cloud.header.stamp), cloud)

    quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=BEST_EFFORT)
    for topic, kind in CLOUDS.items():
        probe.create_subscription(kind, topic, lambda m, topic=topic: add_cloud(m, topic), quality)
    beside_fast = usable_refined_depth(probe)
    found = list(matched.values()) + list(clouds.values())
    send_until(probe, lambda: all(len(one.taken) >= 3 for one in found))
    first = {key: list(one.taken) for key, one in matched.items()}

    assert probe.set_parameters(depth_encoding="16UC1")[0]

    def bgr8(header):
        return image_to_msg(np.ascontiguousarray(sample_image()[..., ::-1]), "bgr8", header)

    since = probe.get_clock().now().nanoseconds

    def in_millimetres():
        sets = {source: matched["rtabmap", source].taken for source in ("fast", "refined")}
        return {source: [one for one in sets[source] if stamp_of(one) > since] for source in sets}

    send_until(probe, lambda: all(in_millimetres().values()), bgr8)
    return SimpleNamespace(
        sets=first,
        bgr8=in_millimetres(),
        beside_fast=list(beside_fast),
        clouds={topic: list(one.taken) for topic, one in clouds.items()},
    )


def stamp_of(parts):
    """Return the stamp of the first message of a set."""
    return nanoseconds(next(iter(parts.values())).header.stamp)


@pytest.mark.parametrize("source", ["fast", "refined"])
@pytest.mark.parametrize("stack", list(SYNCHRONISERS))
def test_image_depth_and_calibration_have_one_stamp_frame_and_size(streams, stack, source):
    sets = streams.sets[stack, source]
    assert len(sets) >= 3
    stamps = [stamp_of(parts) for parts in sets]
    assert stamps == sorted(set(stamps))
    for parts in sets:
        image, depth, info = parts.values()
        assert image.header == depth.header == info.header
        assert image.header.frame_id == "camera"
        assert (image.height, image.width) == (depth.height, depth.width) == (info.height, info.width)
        assert image.encoding in RGB_OF_NVBLOX
        assert depth.encoding == "32FC1"
        assert info.k[0] == info.p[0] == CAMERA.fx  # nvblox reads K, the others P


@pytest.mark.parametrize(("source", "topic"), [("fast", "depth/image"), ("refined", "refined/depth")])
def test_invalid_depth_is_nan_and_never_zero(streams, source, topic):
    for parts in streams.sets["rtabmap", source]:
        depth = depth_array(parts[topic])
        valid = np.isfinite(depth)
        assert valid.any()
        assert (~valid).any()  # by max_depth
        assert np.isnan(depth[~valid]).all()
        assert (depth[valid] > 0).all()
        assert depth[valid].max() <= 0.7 + 1e-6


def test_invalid_depth_in_millimetres_is_zero(streams):
    metres = depth_array(streams.sets["rtabmap", "fast"][0]["depth/image"])
    for parts in streams.bgr8["fast"]:
        depth = parts["depth/image"]
        assert depth.encoding == "16UC1"
        millimetres = depth_array(depth)
        valid = millimetres > 0
        np.testing.assert_array_equal(valid, np.isfinite(metres))
        np.testing.assert_allclose(millimetres[valid] * 1e-3, metres[valid], atol=2e-3)


def test_the_refined_image_of_a_bgr8_camera_is_rgb8(streams):
    """nvblox does not accept bgr8: it can't use the images of such a camera with the fast stream."""
    for parts in streams.bgr8["fast"]:
        assert parts["image"].encoding not in RGB_OF_NVBLOX
    for parts in streams.bgr8["refined"]:
        assert parts["refined/image"].encoding in RGB_OF_NVBLOX
        np.testing.assert_array_equal(image_from_msg(parts["refined/image"]), sample_image())
        assert parts["refined/depth"].encoding == "32FC1"
        assert np.isnan(depth_array(parts["refined/depth"])).any()


@pytest.mark.parametrize("topic", list(CLOUDS))
def test_clouds_are_organised_and_invalid_points_are_nan(streams, topic):
    assert streams.clouds[topic]
    for cloud in streams.clouds[topic]:
        assert (cloud.height, cloud.width) == (CAMERA.height, CAMERA.width)
        assert cloud.header.frame_id == "camera"
        assert not cloud.is_dense
        points = points_from_msg(cloud)
        valid = np.isfinite(points).all(axis=1)
        assert valid.any()
        assert np.isnan(points[~valid]).all()
        np.testing.assert_array_less(0.0, points[valid][:, 2])


def usable_refined_depth(node):
    """Collect refined depth, and whether nvblox uses each message beside the fast depth."""
    nvblox, refined = NewestOfFrame(), []

    def add(message, collected=None):
        nvblox.add(message.header.frame_id, nanoseconds(message.header.stamp), message)
        if collected is not None:
            collected.append((message, nvblox.taken[-1:] == [message]))

    node.create_subscription(Image, "depth/image", add, 10)
    node.create_subscription(Image, "refined/depth", lambda m: add(m, refined), 10)
    return refined


def test_nvblox_drops_late_frames_beside_the_fast_stream(streams):
    """It drops a frame that is not newer than the last one with its frame_id, on any topic."""
    assert streams.beside_fast
    assert not any(used for _, used in streams.beside_fast)


def test_nvblox_uses_late_frames_with_their_own_frame_id(pair, client):
    assert client.set_parameters(refined_frame_id="late")[0]
    pair.diagnostics(lambda values: values["keyframes sent"] == values["keyframes ended"])
    pair.forget()
    refined = usable_refined_depth(pair)
    send_until(pair, lambda: len(refined) >= 2, at_once=1)
    assert {message.header.frame_id for message, _ in refined} == {"late"}
    assert all(used for _, used in refined)


def test_keyframes_that_tf_has_forgotten_are_not_published(pair, client):
    """tf2 keeps 10 s, and max_age is 8 s in the launch file."""
    began, age = pair.get_clock().now().nanoseconds, 60 * SECOND
    for node in (pair, client):  # accept stamps of the past
        assert node.change_state("deactivate", "activate")
    pair.forget()
    assert client.set_parameters(max_age=8.0)[0]

    def send_old():
        """Send a frame that is a minute old, a little newer than the one before."""
        nonlocal age
        age -= 10 * MILLISECOND
        pair.send(header=Header(stamp=time_from_nanoseconds(began - age), frame_id="camera"))

    def stamps():
        return [nanoseconds(message.header.stamp) for message in pair.received["refined/depth"]]

    before = int(client.diagnostics()[2]["too old"])

    def meanwhile():
        send_old()
        pair.spin(0.1)

    client.diagnostics(lambda values: int(values["too old"]) >= before + 2, meanwhile=meanwhile)
    assert stamps() == []
    # Without the limit they are published, but tf no longer has their poses.
    assert client.set_parameters(max_age=0.0)[0]
    poses = PoseCache()
    for back in range(20, -1, -1):
        poses.add(began - back * SECOND)
    assert pair.until(stamps, meanwhile=send_old, period=0.3)
    assert not any(poses.knows(stamp) for stamp in stamps())
    # Recent ones are published with the limit as well.
    assert client.set_parameters(max_age=8.0)[0]
    send_until(pair, lambda: max(stamps()) >= began, at_once=1)
