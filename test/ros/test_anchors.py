"""redepth_node with anchors: metres from what was measured, and from what was measured wrongly."""

import re
import time

import numpy as np
import pytest
from conftest import CAMERA, Probe, depth_of, picture
from diagnostic_msgs.msg import DiagnosticStatus
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.clouds import decode_cloud, encode_cloud
from redepth_ros.ros.images import decode_depth, encode_image

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
        self.listen(Image, "depth/stddev")

    def send_with_anchors(self, measured, encoding="32FC1", header=None, **other):
        """An image and a depth image of its own header, or of another one; the image's stamp."""
        own = self.next_header()
        message = encode_image(measured, encoding, header or Header(stamp=own.stamp, frame_id=own.frame_id))
        for name, value in other.items():
            setattr(message, name, value)
        self.anchors.publish(message)
        self.spin(0.1)
        return self.send(header=own)

    def depth_with(self, measured, **options):
        return depth_of(self.answer(self.send_with_anchors(measured, **options)))


@pytest.fixture(scope="module")
def depth_node(start, ros):
    return start("redepth_node", {**SETTINGS, "anchors": "depth"}, namespace="/rgbd")


@pytest.fixture
def robot(depth_node):
    node = Robot("/rgbd")
    node.wait_until_served()
    node.until(lambda: node.anchors.get_subscription_count(), 10)
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


def test_a_frame_is_handed_out_with_the_scale(robot, truth):
    robot.depth_with(sparse(truth))
    client = robot.create_client(GetFrame, "get_frame")
    assert robot.until(client.service_is_ready)
    future = client.call_async(GetFrame.Request())
    assert robot.until(future.done)
    assert future.result().success, future.result().message
    assert future.result().scale == pytest.approx(SCALE, rel=0.02)
    assert future.result().shift == pytest.approx(SHIFT, abs=0.05)
    assert future.result().scale_covariance[0] > 0


def test_sixteen_bits_are_millimetres(robot, truth):
    millimetres = np.nan_to_num(sparse(truth) * 1000.0).round().astype(np.uint16)
    depth = robot.depth_with(millimetres, encoding="16UC1")
    np.testing.assert_allclose(depth, truth, rtol=0.03)


def test_anchors_at_half_the_size(robot, truth):
    half = np.ascontiguousarray(truth[::2, ::2]).astype(np.float32)
    depth = robot.depth_with(half)
    np.testing.assert_allclose(depth, truth, rtol=0.05)


def test_its_standard_deviation_is_published_where_somebody_listens(robot, truth):
    for _ in range(3):
        stamp = robot.send_with_anchors(sparse(truth))
        if (message := robot.answer(stamp, "depth/stddev", 2.0)) is not None:
            break
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


def header_at(seconds):
    header = Header(frame_id="camera")
    header.stamp.sec = seconds
    return header


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda truth: {"measured": np.full_like(truth, np.nan)}, "none of the 12288 pixels"),
        (lambda truth: {"measured": -truth}, "none of the 12288 pixels"),
        (lambda truth: {"measured": sparse(truth, 12)}, "12 anchors where there is depth; at least 30"),
        (lambda truth: {"measured": truth * 1000.0}, "look like millimetres"),
        (lambda truth: {"measured": truth[:, :64].copy()}, "64x96 pixels, the image 128x96"),
        (lambda truth: {"measured": truth, "header": Header(frame_id="lidar")}, "stamps on|'lidar'"),
        (lambda truth: {"measured": truth, "encoding": "mono8"}, "encoding 'mono8'; publish 32FC1"),
        (lambda truth: {"measured": truth, "step": 7}, "needs a step of at least"),
        (lambda truth: {"measured": 7.0 - np.clip(truth, 0.1, 6.9)}, "farther|agree|uncertain"),
    ],
)  # fmt: skip
def test_anchors_that_can_not_be_used_leave_the_last_good_scale(robot, truth, make, words):
    robot.depth_with(sparse(truth))
    options = make(truth)
    options["measured"] = options["measured"].astype(np.float32)
    if options.get("header"):
        options["header"].stamp = robot.get_clock().now().to_msg()
    for _ in range(2):
        depth = robot.depth_with(**options)
        np.testing.assert_allclose(depth, truth, rtol=0.05)
    found = robot.diagnosis(lambda values: "the last good scale is kept" in values["last error"])
    assert re.search(words, found[2]["last error"]), found[2]["last error"]
    assert found[0] == DiagnosticStatus.WARN


def test_anchors_that_stop_are_missed_aloud_and_found_again(robot, truth):
    robot.depth_with(sparse(truth))
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        stamp = robot.send()
        robot.spin(0.2)
    np.testing.assert_allclose(depth_of(robot.answer(stamp)), truth, rtol=0.05)
    assert robot.diagnosis(lambda values: float(values["scale age (s)"]) > 1.0)[0] == DiagnosticStatus.WARN
    for _ in range(4):
        robot.depth_with(sparse(truth))
    assert robot.diagnosis(lambda values: values["depth"] == "in metres, by anchors")


def cloud_of(truth, header):
    v, u = np.mgrid[0 : CAMERA.height, 0 : CAMERA.width]
    x, y = (u - CAMERA.cx) / CAMERA.fx * truth, (v - CAMERA.cy) / CAMERA.fy * truth
    points = np.stack((x, y, truth)).astype(np.float32)
    return encode_cloud(points, picture(), header)


def test_a_lidars_cloud_in_the_cameras_frame(start, ros, truth):
    start("redepth_node", {**SETTINGS, "anchors": "points"}, namespace="/lidar")
    robot = Robot("/lidar")
    try:
        robot.wait_until_served()
        robot.until(lambda: robot.cloud.get_subscription_count(), 10)
        header = robot.next_header()
        robot.cloud.publish(cloud_of(truth, header))
        robot.spin(0.2)
        depth = depth_of(robot.answer(robot.send(header=header)))
        np.testing.assert_allclose(depth, truth, rtol=0.02)
        header = robot.next_header()
        robot.cloud.publish(cloud_of(truth, Header(stamp=header.stamp, frame_id="velodyne")))
        robot.spin(0.2)
        depth = depth_of(robot.answer(robot.send(header=header)))
        np.testing.assert_allclose(depth, truth, rtol=0.02)
        found = robot.diagnosis(lambda values: "'velodyne'" in values["last error"])
        assert re.search("tf2_ros can't be imported|no transform", found[2]["last error"])
    finally:
        robot.executor_.shutdown()
        robot.destroy_node()


def test_a_height_needs_a_number(start, ros):
    start("redepth_node", {**SETTINGS, "anchors": "height"}, namespace="/high")
    robot = Robot("/high")
    try:
        found = robot.diagnosis(lambda values: "camera_height 0.0 m; give" in values["last error"], 60.0)
        assert found[0] == DiagnosticStatus.ERROR
    finally:
        robot.executor_.shutdown()
        robot.destroy_node()


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
