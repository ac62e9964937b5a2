"""redepth_node with anchors: metres from what was measured, and from what was measured wrongly."""

import re

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from conftest import CAMERA, Probe, depth_of, picture
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import TransformStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState
from rclpy.action import ActionClient
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.core.metric.ground_plane import scale_from_height
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.msgs.point_clouds import decode_cloud, encode_cloud
from redepth_ros.ros.msgs.images import decode_depth, encode_image
from redepth_ros.ros.streams.message_cache import nanoseconds
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import draw_scene

SETTINGS = {"model": "tiny", "device": "cpu", "max_depth": 1000.0, "scale_patience": 1.0}
SCALE, SHIFT = 6.0, 0.4


@pytest.fixture(scope="module")
def truth():
    """The metric depth of `picture`, if the network were right but for scale and shift."""
    disparity = DepthAnything.load("tiny", device="cpu").predict(picture()).numpy()
    return SCALE / (disparity + SHIFT)


def sparse(truth, count=200, outliers=0.1):
    """A depth image of some measured pixels, a share of them wrong."""
    rng = np.random.default_rng(0)
    measured = np.full(truth.size, np.nan, np.float32)
    chosen = rng.choice(truth.size, count, replace=False)
    measured[chosen] = truth.flat[chosen] * (1.0 + 0.01 * rng.standard_normal(count))
    measured[chosen[: int(outliers * count)]] = truth.max() * 2.0
    return measured.reshape(truth.shape)


class Robot(Probe):
    """A probe that measures, too."""

    def __init__(self, namespace):
        super().__init__(f"{namespace}/redepth_node", namespace=namespace)
        self.anchors = self.create_publisher(Image, "anchors/depth", 10)
        self.cloud = self.create_publisher(PointCloud2, "anchors/points", 10)
        self.states = self.create_client(GetState, f"{self.target}/get_state")
        self.listen(Image, "depth/stddev")

    def settle(self):
        """Wait until the node has what was published before the image that needs it is sent.

        It answers a service after it has read its topics. Acknowledgements would come 3 s late: Fast
        DDS asks for them once in that time.
        """
        assert self.until(self.states.service_is_ready)
        future = self.states.call_async(GetState.Request())
        assert self.until(future.done)

    def send_with_anchors(self, measured, encoding="32FC1", frame_id="camera", behind=0, **other):
        """An image and a depth image, whose stamp lies some nanoseconds behind; the image's stamp."""
        own = self.next_header()
        header = Header(frame_id=frame_id)
        header.stamp.sec, header.stamp.nanosec = divmod(nanoseconds(own.stamp) - behind, 1_000_000_000)
        message = encode_image(measured, encoding, header)
        for name, value in other.items():
            setattr(message, name, value)
        self.anchors.publish(message)
        self.settle()
        return self.send(header=own)

    def send_with_cloud(self, cloud, header):
        """An image and a cloud; the image's stamp."""
        self.cloud.publish(cloud)
        self.settle()
        return self.send(header=header)

    def depth_with(self, measured, **options):
        return depth_of(self.answer(self.send_with_anchors(measured, **options)))


@pytest.fixture(scope="module")
def depth_node(start, ros):
    return start("redepth_node", {**SETTINGS, "anchors": "depth"}, namespace="/rgbd")


@pytest.fixture
def robot(depth_node):
    node = Robot("/rgbd")
    node.wait_until_served()
    assert node.until(lambda: node.anchors.get_subscription_count())
    yield node
    node.executor_.shutdown()
    node.destroy_node()


def test_depth_is_invalid_before_the_first_anchors_and_in_metres_after(robot, truth):
    stamp = robot.send()
    assert np.isnan(depth_of(robot.answer(stamp))).all()
    assert robot.diagnosis(lambda values: "no usable anchors yet" in values["depth"])
    depth = robot.depth_with(sparse(truth))
    np.testing.assert_allclose(depth, truth, rtol=0.02)
    found = robot.diagnosis(lambda values: values["depth"] == "in metres, by anchors")
    assert float(found[2]["scale"]) == pytest.approx(SCALE, rel=0.02)
    assert int(found[2]["anchors"]) == 200
    assert 80 <= int(found[2]["anchors agreeing (%)"]) <= 95


def test_a_frame_is_handed_out_with_its_anchors_and_the_scale(robot, truth):
    measured = sparse(truth)
    stamp = robot.send_with_anchors(measured)
    assert robot.answer(stamp)
    wild = robot.send_with_anchors(3.0 * sparse(truth))
    assert robot.answer(wild)
    client = robot.create_client(GetFrame, "get_frame")
    assert robot.until(client.service_is_ready)

    def frame_of(stamp):
        request = GetFrame.Request()
        request.stamp.sec, request.stamp.nanosec = divmod(stamp, 1_000_000_000)
        future = client.call_async(request)
        assert robot.until(future.done)
        assert future.result().success, future.result().message
        return future.result()

    for frame in (frame_of(stamp), frame_of(0)):  # 0: the newest one with anchors that were believed
        assert nanoseconds(frame.image.header.stamp) == stamp
        np.testing.assert_array_equal(depth_of(frame.anchors), measured)
        assert frame.scale == pytest.approx(SCALE, rel=0.02)
        assert frame.shift == pytest.approx(SHIFT, abs=0.05)
        assert frame.scale_covariance[0] > 0
    assert not frame_of(wild).anchors.data


def test_a_goal_of_a_stamp_is_refined_with_the_frames_anchors(robot, start, truth):
    start("refine_server", {"model": "tiny", "prior": "tiny", "members": 1, "steps": 25}, namespace="/rgbd")
    client = ActionClient(robot, RefineDepth, "refine")
    assert robot.until(client.server_is_ready)
    assert robot.set_parameter("keyframes", "none")[0]  # the node's own would take the goal's place

    def accepted(goal, told):
        """The handle of a goal; None from a server that is not active yet."""
        future = client.send_goal_async(
            goal, feedback_callback=lambda m: told.append(m.feedback.loss_anchors)
        )
        assert robot.until(future.done)
        return future.result() if future.result().accepted else None

    losses, errors = [], []
    for measured in (sparse(truth), np.full_like(truth, np.nan)):
        stamp = robot.send_with_anchors(measured)
        assert robot.answer(stamp)
        goal = RefineDepth.Goal()
        goal.stamp.sec, goal.stamp.nanosec = divmod(stamp, 1_000_000_000)
        told = []
        handle = robot.until(lambda goal=goal, told=told: accepted(goal, told))
        assert handle
        # Before the result is asked for: with that, rclpy drops feedback that is still on its way.
        assert robot.until(lambda told=told: told)
        answer = handle.get_result_async()
        assert robot.until(answer.done)
        assert answer.result().result.outcome == RefineDepth.Result.OUTCOME_REFINED
        losses.append(told[-1])
        errors.append(np.abs(np.log(depth_of(answer.result().result.depth) / truth)).mean())
    assert losses[0] > losses[1] == 0.0
    assert errors[0] < 0.8 * errors[1]  # metres that were measured hold it where it was right


def test_sixteen_bits_are_millimetres(robot, truth):
    millimetres = np.nan_to_num(sparse(truth) * 1000.0).round().astype(np.uint16)
    depth = robot.depth_with(millimetres, encoding="16UC1")
    np.testing.assert_allclose(depth, truth, rtol=0.03)


def test_anchors_at_half_the_size(robot, truth):
    half = np.ascontiguousarray(truth[::2, ::2]).astype(np.float32)
    depth = robot.depth_with(half)
    np.testing.assert_allclose(depth, truth, rtol=0.05)


def test_its_standard_deviation_is_published_where_somebody_listens(robot, truth):
    stamp = robot.served_on(
        "depth/image", "depth/stddev", send=lambda: robot.send_with_anchors(sparse(truth))
    )
    message = robot.of_stamp("depth/stddev", stamp)
    deviation, depth = depth_of(message), depth_of(robot.answer(stamp))
    assert message.header == robot.answer(stamp).header
    assert (deviation > 0).all()
    assert 0.01 < np.median(deviation / depth) < 0.5


def test_doubtful_pixels_and_edges_are_invalid_on_demand(robot, truth):
    assert np.isfinite(robot.depth_with(sparse(truth))).all()
    for name in ("max_relative_stddev", "max_edge"):
        assert robot.set_parameter(name, 0.02)[0]
        left = np.isfinite(robot.depth_with(sparse(truth))).mean()
        assert robot.set_parameter(name, 0.0)[0]
        assert left < 1.0, name


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda truth: {"measured": np.full_like(truth, np.nan)}, "none of the 12288 pixels"),
        (lambda truth: {"measured": -truth}, "none of the 12288 pixels"),
        (lambda truth: {"measured": sparse(truth, 12)}, "12 anchors where there is depth; at least 30"),
        (lambda truth: {"measured": truth * 1000.0}, "look like millimetres"),
        (lambda truth: {"measured": truth[:, :64].copy()}, "64x96 pixels, the image 128x96"),
        (lambda truth: {"measured": truth, "frame_id": "lidar"}, "'lidar'"),
        (lambda truth: {"measured": truth, "encoding": "mono8"}, "encoding 'mono8'; publish 32FC1"),
        (lambda truth: {"measured": truth, "step": 7}, "needs a step of at least"),
        (lambda truth: {"measured": 7.0 - np.clip(truth, 0.1, 6.9)}, "farther|agree|uncertain"),
    ],
)  # fmt: skip
def test_anchors_that_can_not_be_used_leave_the_last_good_scale(robot, truth, make, words):
    robot.depth_with(sparse(truth))
    options = make(truth)
    options["measured"] = options["measured"].astype(np.float32)
    for _ in range(2):
        depth = robot.depth_with(**options)
        np.testing.assert_allclose(depth, truth, rtol=0.05)

    def tells(values):
        kept = "the last good scale is kept" in values["last error"]
        return kept and re.search(words, values["last error"])

    found = robot.diagnosis(
        tells, level=DiagnosticStatus.WARN, meanwhile=lambda: robot.send_with_anchors(**options)
    )
    assert found, robot.diagnosis()


def test_anchors_of_other_stamps_are_missed_aloud(robot, truth):
    robot.depth_with(sparse(truth))
    words = r"no anchors within anchor_tolerance .* their stamps lie 0\.[23]\d\d s apart"
    # One frame at a time: late anchors are those of an image that had to wait.
    assert robot.diagnosis(
        level=DiagnosticStatus.WARN, message=words,
        meanwhile=lambda: robot.depth_with(sparse(truth), behind=300_000_000), period=0.05,
    )  # fmt: skip


def test_anchors_that_stop_are_missed_aloud_and_found_again(robot, truth):
    robot.depth_with(sparse(truth))
    assert robot.diagnosis(
        lambda values: float(values["scale age (s)"]) > 1.0,
        level=DiagnosticStatus.WARN, meanwhile=robot.send, period=0.2,
    )  # fmt: skip
    np.testing.assert_allclose(depth_of(robot.answer(robot.send())), truth, rtol=0.05)
    for _ in range(4):
        robot.depth_with(sparse(truth))
    assert robot.diagnosis(lambda values: values["depth"] == "in metres, by anchors")


def points_of(truth):
    """Points (3, H, W) of a depth, in the camera's frame."""
    v, u = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width]
    x, y = (u - CAMERA.cx) / CAMERA.fx * truth, (v - CAMERA.cy) / CAMERA.fy * truth
    return np.stack((x, y, truth)).astype(np.float32)


def cloud_of(truth, header):
    return encode_cloud(points_of(truth), picture(), header)


@pytest.fixture
def robot_with(start, ros):
    """Starts a node with other parameters and gives its robot; each namespace can be used once."""
    robots = []

    def start_node(namespace, **parameters):
        start("redepth_node", {**SETTINGS, **parameters}, namespace=namespace)
        robots.append(Robot(namespace))
        return robots[-1]

    yield start_node
    for robot in robots:
        robot.executor_.shutdown()
        robot.destroy_node()


@pytest.fixture
def lidar_robot(robot_with):
    def start_node(namespace, **parameters):
        robot = robot_with(namespace, anchors="points", **parameters)
        robot.wait_until_served()
        assert robot.until(lambda: robot.cloud.get_subscription_count())
        return robot

    return start_node


def test_a_lidars_cloud_in_the_cameras_frame(lidar_robot, truth):
    robot = lidar_robot("/lidar")

    def send_with_points(frame_id):
        header = robot.next_header()
        cloud = cloud_of(truth, Header(stamp=header.stamp, frame_id=frame_id))
        return robot.send_with_cloud(cloud, header)

    for frame_id in ("camera", "velodyne"):
        depth = depth_of(robot.answer(send_with_points(frame_id)))
        np.testing.assert_allclose(depth, truth, rtol=0.02)
    found = robot.diagnosis(
        lambda values: "'velodyne'" in values["last error"], meanwhile=lambda: send_with_points("velodyne")
    )
    assert re.search("tf2_ros can't be imported|no transform", found[2]["last error"])


LIDAR = np.array([0.1, -0.2, 0.05])
"""Where the lidar is in the camera's optical frame; its x is forward, its y left, its z up."""


def transform(parent, child, stamp, move=(0.0, 0.0, 0.0), turn=(0.0, 0.0, 0.0, 1.0)):
    found = TransformStamped(child_frame_id=child)
    found.header.frame_id, found.header.stamp = parent, stamp
    vector, rotation = found.transform.translation, found.transform.rotation
    vector.x, vector.y, vector.z = map(float, move)
    rotation.x, rotation.y, rotation.z, rotation.w = turn
    return found


def test_a_lidars_cloud_through_tf(lidar_robot, truth):
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not on PyPI: no transforms")
    robot = lidar_robot("/tf")
    x, y, z = points_of(truth) - LIDAR[:, None, None].astype(np.float32)
    broadcaster = tf2_ros.StaticTransformBroadcaster(robot)
    mounted = transform("camera", "velodyne", Time(), LIDAR, (0.5, -0.5, 0.5, 0.5))
    broadcaster.sendTransform(mounted)

    def depths_by_lidar():
        """One depth; none before the transform and the first cloud have come."""
        header = robot.next_header()
        measured = Header(stamp=header.stamp, frame_id="velodyne")
        cloud = encode_cloud(np.stack((z, -x, -y)), picture(), measured)
        depth = depth_of(robot.answer(robot.send_with_cloud(cloud, header)))
        return [depth] if np.isfinite(depth).any() else []

    for name in ("", "DEACTIVATE", "CLEANUP", "CONFIGURE", "ACTIVATE"):
        assert not name or robot.change_state(getattr(Transition, f"TRANSITION_{name}")), name
        if name in ("", "ACTIVATE"):
            found = robot.until(depths_by_lidar)
            assert found, "the transform does not come"
            np.testing.assert_allclose(found[0], truth, rtol=0.02)


def test_what_moved_between_cloud_and_image_is_made_up_for(lidar_robot, truth):
    tf2_ros = pytest.importorskip("tf2_ros", reason="tf2_ros is not on PyPI: no transforms")
    robot = lidar_robot("/moving", anchor_fixed_frame="odom", anchor_tolerance=0.5)
    broadcaster = tf2_ros.TransformBroadcaster(robot)
    assert robot.until(lambda: broadcaster.pub_tf.get_subscription_count())
    before = robot.next_header()
    robot.spin(0.1)
    header = robot.next_header()
    half_a_metre = np.array([0.0, 0.0, 0.5], np.float32)[:, None, None]
    broadcaster.sendTransform(transform("odom", "camera", before.stamp))
    robot.settle()
    stamp = robot.send_with_cloud(encode_cloud(points_of(truth) + half_a_metre, picture(), before), header)
    # The pose at the image's stamp comes a little after the image.
    broadcaster.sendTransform(transform("odom", "camera", header.stamp, (0.0, 0.0, 0.5)))
    np.testing.assert_allclose(depth_of(robot.answer(stamp)), truth, rtol=0.02)


def test_the_height_over_the_ground(robot_with):
    textures = atlas()
    rendering = render(draw_scene(902, textures[0].shape[0], CAMERA.width, CAMERA.height), textures)
    image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
    disparity = DepthAnything.load("tiny", device="cpu").predict(image)
    robot = robot_with("/high", anchors="height", camera_height=0.9)
    robot.wait_until_served()

    def depth_of_a_frame():
        header = robot.next_header()
        return depth_of(robot.answer(robot.send(encode_image(image, "rgb8", header), header=header)))

    for height in (0.9, 1.8):
        assert robot.set_parameter("camera_height", height)[0]
        for _ in range(6):
            depth = depth_of_a_frame()
        expected = scale_from_height(disparity.numpy(), CAMERA, height).depth(disparity).numpy()
        np.testing.assert_allclose(depth, expected, rtol=0.02)
    values = robot.diagnosis(lambda values: values["depth"] == "in metres, by anchors")[2]
    assert float(values["scale standard deviation (%)"]) > 0
    header = robot.next_header()
    assert robot.answer(robot.send(header=header)), "a frame without a ground"
    found = robot.diagnosis(
        lambda values: "the last good scale is kept" in values["last error"], meanwhile=robot.send
    )
    assert "plane below the camera" in found[2]["last error"]


def test_a_height_needs_a_number(robot_with):
    robot = robot_with("/nowhere", anchors="height")
    found = robot.diagnosis(lambda values: "camera_height 0.0 m; give" in values["last error"])
    assert found[0] == DiagnosticStatus.ERROR


def test_a_cloud_of_any_layout():
    points = np.arange(12, dtype=np.float64).reshape(4, 3)
    layout = np.dtype({"names": list("zyx"), "formats": [">f8"] * 3, "offsets": [8, 24, 16], "itemsize": 40})
    stored = np.zeros(4, layout)
    for axis, name in enumerate("xyz"):
        stored[name] = points[:, axis]
    message = PointCloud2(height=1, width=4, point_step=40, row_step=160, is_bigendian=True)
    message.fields = [
        PointField(name=name, offset=layout.fields[name][1], datatype=PointField.FLOAT64, count=1)
        for name in "zyx"
    ]
    message.data = stored.tobytes()
    np.testing.assert_array_equal(decode_cloud(message), points)
    message.width = 9
    with pytest.raises(ImageError, match="its driver fills it wrongly"):
        decode_cloud(message)
    message.point_step = 30
    with pytest.raises(ImageError, match="end at byte 32 of a point, its point_step is 30"):
        decode_cloud(message)
    message.fields = message.fields[:2]
    with pytest.raises(ImageError, match="it needs x, y and z"):
        decode_cloud(message)


def test_a_cloud_of_ours_can_be_read_again():
    truth = np.full((CAMERA.height, CAMERA.width), 2.5, np.float32)
    points = decode_cloud(cloud_of(truth, Header()))
    assert points.shape == (truth.size, 3)
    assert (points[:, 2] == 2.5).all()


def test_depth_messages_in_metres():
    metres = np.array([[0.5, np.nan], [0.0, 3.25]], np.float32)
    np.testing.assert_array_equal(decode_depth(encode_image(metres, "32FC1", Header())), metres)
    millimetres = np.array([[500, 0], [65535, 1]], np.uint16)
    found = decode_depth(encode_image(millimetres, "16UC1", Header()))
    np.testing.assert_allclose(found, [[0.5, np.nan], [65.535, 0.001]])
    with pytest.raises(ImageError, match="'rgb8'; publish 32FC1"):
        decode_depth(encode_image(picture(), "rgb8", Header()))
