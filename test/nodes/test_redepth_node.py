"""The fast node with a fake network, its camera and its server, in this process."""

import threading
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from fakes import (
    CAMERA,
    FakeActionServer,
    FakeCamera,
    FakeDepthNetwork,
    FakeRedepthNode,
    Graph,
    depth_array,
    header_at,
    image_at,
    sample_image,
)
from rclpy.qos import QoSProfile, ReliabilityPolicy
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.models import runtimes
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.nodes import depth_topics
from redepth_ros.nodes.redepth_node import RedepthNode
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.point_clouds import points_to_msg
from redepth_ros.ros.msgs.refine_depth import scale_from_msg
from redepth_ros.ros.msgs.time import nanoseconds, time_from_nanoseconds


class Setup:
    """An active node, a camera and a listener."""

    def __init__(self, set_parameters, **parameters):
        self.node = FakeRedepthNode()
        self.other = rclpy.create_node("camera_and_listener")
        self.graph = Graph(self.node, self.other)
        self.camera = FakeCamera(self.other)
        self.server = None
        self.graph.listen(self.other, Image, "depth/image")
        self.graph.listen(self.other, CameraInfo, "depth/camera_info")
        self.set = lambda **values: set_parameters(self.node, **values)
        assert self.set(threads=1, **parameters)[0]
        self.node.trigger_configure()
        self.node.trigger_activate()

    def close(self):
        if self.server is not None:
            self.server.destroy()
        self.graph.close()

    def connect(self):
        """Wait until images pass through the node."""
        assert self.graph.until(
            lambda: self.other.count_subscribers("image") + self.other.count_subscribers("image/compressed")
        )
        assert self.graph.until(lambda: self.camera.send() and self.graph.received["depth/image"])
        self.graph.spin(0.1)

    def serve(self):
        self.server = FakeActionServer(self.other)
        assert self.graph.until(lambda: self.node._refine.ready)

    def answer(self, *arguments, **options):
        """Send an image, and return its depth message."""
        return self.graph.wait_for("depth/image", self.camera.send(*arguments, **options))

    def skipped(self, words, *arguments, **options):
        """Send an image, and wait until the node warns instead of publishing its depth."""
        stamp = self.camera.send(*arguments, **options)
        assert self.graph.until(lambda: words in self.node.log.last), self.node.log.last
        self.graph.spin(0.05)
        assert self.graph.at_stamp("depth/image", stamp) is None

    def frame(self, stamp=0):
        """Return the response of get_frame."""
        request = GetFrame.Request(stamp=time_from_nanoseconds(stamp))
        return self.node._get_frame(request, GetFrame.Response())

    def refine_now(self):
        return self.node._refine_now(Trigger.Request(), Trigger.Response())

    def goals(self):
        return self.server.goals


@pytest.fixture
def make(ros, set_parameters):
    setups = []

    def make(**parameters):
        setups.append(Setup(set_parameters, **parameters))
        setups[-1].connect()
        return setups[-1]

    yield make
    for setup in setups:
        setup.close()


@pytest.fixture
def setup(make):
    return make(keyframes="none")


# Depth.


def test_an_image_is_answered_with_its_depth_and_calibration(setup):
    message = setup.answer()
    expected = 1.0 / setup.node.network.output(sample_image()).numpy()
    np.testing.assert_allclose(depth_array(message), expected, rtol=1e-6)
    info = setup.graph.wait_for("depth/camera_info", nanoseconds(message.header.stamp))
    assert (info.header, info.k[0]) == (message.header, CAMERA.fx)


def test_a_change_of_parameters_applies_to_the_next_image(setup):
    plain = depth_array(setup.answer())
    assert setup.set(scale=2.0)[0]
    np.testing.assert_allclose(depth_array(setup.answer()), 2.0 * plain, rtol=1e-6)
    assert setup.set(depth_encoding="16UC1")[0]
    assert setup.answer().encoding == "16UC1"


def test_compressed_images_are_answered(make):
    setup = make_compressed(make)
    np.testing.assert_allclose(
        depth_array(setup.answer(jpeg())), 1.0 / setup.node.network.output(decoded()).numpy(), rtol=1e-5
    )
    setup.skipped("can't be decoded", CompressedImage(format="jpeg", data=jpeg().data[:200]))


def jpeg():
    data = cv2.imencode(".jpg", sample_image()[..., ::-1])[1].tobytes()
    return CompressedImage(format="jpeg", data=data)


def decoded():
    return cv2.imdecode(np.frombuffer(jpeg().data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def make_compressed(make):
    send = FakeCamera.send
    FakeCamera.send = lambda self, image=None, **options: send(self, image or jpeg(), **options)
    try:
        return make(transport="compressed", keyframes="none")
    finally:
        FakeCamera.send = send


@pytest.mark.parametrize(
    ("make_image", "words"),
    [
        (lambda: Image(height=24, width=32, encoding="yuv999", step=96, data=bytes(24 * 96)), "'yuv999'"),
        (lambda: Image(height=24, width=32, encoding="rgb8", step=96, data=bytes(500)), "500 bytes of data"),
        (lambda: Image(), "0x0 pixels"),
        (lambda: image_to_msg(np.full((24, 32), np.nan, np.float32), "32FC1", header_at(0)), "NaN or"),
    ],
)
def test_a_bad_image_is_skipped_and_the_next_is_answered(setup, make_image, words):
    setup.skipped(words, make_image())
    assert setup.node.log.last.startswith("frame skipped: ")
    assert setup.answer()


@pytest.mark.parametrize("error", [ZeroDivisionError("oh"), MemoryError("30 GB")])
def test_a_failure_of_the_network_skips_the_frame(setup, error):
    setup.node.network.error = error
    setup.skipped(str(error))
    setup.node.network.error = None
    assert setup.answer()


def test_services_and_parameters_work_while_the_network_runs(setup):
    network = setup.node.network
    network.hold()
    stamp = setup.camera.send()
    assert setup.graph.until(lambda: setup.frame(stamp).success)
    assert setup.graph.until(lambda: setup.node._pipeline._mailbox._item is None)  # the network has it
    assert setup.set(min_depth=0.1)[0]
    before = setup.node._statistics.overwritten
    for _ in range(3):
        later = setup.camera.send()
        assert setup.graph.until(lambda later=later: setup.frame(later).success)
    assert setup.graph.at_stamp("depth/image", stamp) is None
    network.release()
    setup.graph.wait_for("depth/image", stamp)
    assert setup.node._statistics.overwritten == before + 2


# Stamps.


def test_a_stamp_of_zero_is_skipped(setup):
    setup.skipped("stamp of zero", header=header_at(0.0))
    assert setup.answer()


def test_a_duplicate_stamp_is_skipped(setup):
    header = setup.camera.next_header()
    assert setup.answer(header=header)
    setup.graph.received["depth/image"].clear()
    setup.skipped("duplicate stamp", header=header)
    assert setup.answer()


def test_a_backward_jump_is_skipped_once_and_clears_the_frame_buffer(setup):
    old = nanoseconds(setup.answer().header.stamp)
    setup.skipped("went back", header=header_at(500.0))
    assert not setup.frame(old).success
    assert setup.frame(500 * 10**9).success
    assert setup.answer(header=header_at(500.1))


def test_activating_accepts_any_stamp(setup):
    setup.node.trigger_deactivate()
    setup.node.trigger_activate()
    assert setup.answer(header=header_at(500.0))


# Lifecycle.


def test_a_deactivated_node_ignores_images(setup):
    setup.node.trigger_deactivate()
    received = setup.node._statistics.received.total
    stamp = setup.camera.send()
    setup.graph.spin(0.1)
    assert setup.graph.at_stamp("depth/image", stamp) is None
    assert setup.node._statistics.received.total == received
    assert not setup.refine_now().success
    setup.node.trigger_activate()
    assert setup.answer()


def test_cleanup_unsubscribes_and_configure_subscribes_again(setup):
    setup.node.trigger_deactivate()
    setup.node.trigger_cleanup()
    for topic in ("image", "camera_info"):
        assert setup.graph.until(lambda topic=topic: setup.other.count_subscribers(topic) == 0)
    assert not setup.frame().success
    setup.node.trigger_configure()
    setup.node.trigger_activate()
    setup.connect()
    assert setup.answer()


def test_many_transitions_leak_no_threads(setup):
    def cycle():
        for transition in ("deactivate", "cleanup", "configure", "activate"):
            getattr(setup.node, f"trigger_{transition}")()

    cycle()
    count = threading.active_count()
    for _ in range(20):
        cycle()
    assert threading.active_count() <= count
    setup.connect()
    assert setup.answer()


# Frames for goals.


def test_get_frame_returns_an_image_with_its_calibration(setup):
    stamp = nanoseconds(setup.answer().header.stamp)
    for frame in (setup.frame(stamp), setup.frame()):
        assert frame.success
        assert nanoseconds(frame.image.header.stamp) == stamp
        assert frame.camera_info.k[0] == CAMERA.fx
        assert (frame.scale, bytes(frame.anchors.data)) == (0.0, b"")


def test_get_frame_names_what_is_missing(setup):
    setup.answer()
    response = setup.frame(12 * 10**9)
    assert not response.success
    assert "no frame of stamp 12." in response.message
    assert "raise frame_buffer_size" in response.message


def test_get_frame_decodes_compressed_images(make):
    setup = make_compressed(make)
    stamp = nanoseconds(setup.answer(jpeg()).header.stamp)
    frame = setup.frame(stamp)
    assert frame.image.encoding == "rgb8"
    np.testing.assert_array_equal(np.frombuffer(frame.image.data, np.uint8).reshape(24, 32, 3), decoded())


# Keyframes.


def test_a_keyframe_is_sent_with_its_calibration(make):
    setup = make(keyframes="on_request")
    setup.serve()
    setup.answer()
    assert setup.refine_now().success
    depth = setup.answer()
    assert setup.graph.until(setup.goals)
    (goal,) = setup.goals()
    assert goal.image.header == depth.header
    assert goal.camera_info.k[0] == CAMERA.fx
    assert scale_from_msg(goal) is None  # the default: the server's parameters apply
    assert not setup.refine_now().success
    assert "another keyframe" in setup.refine_now().message
    setup.server.end()
    assert setup.graph.until(lambda: not setup.node._refine.busy)
    assert dict(setup.node._stream_health().values)["last keyframe"] == "succeeded: refined"


def test_a_keyframe_has_the_scale_of_its_depth(make):
    setup = make(keyframes="all", keyframe_min_interval=0.0, scale=2.0, shift=0.1)
    setup.serve()
    setup.answer()
    assert setup.graph.until(setup.goals)
    assert scale_from_msg(setup.goals()[0]) == Scale(2.0, 0.1)


def test_a_compressed_keyframe_is_sent_as_rgb8(make):
    setup = make_compressed(make)
    setup.set(keyframes="all")
    setup.serve()
    setup.answer(jpeg())
    assert setup.graph.until(setup.goals)
    assert setup.goals()[0].image.encoding == "rgb8"


def test_one_keyframe_is_refined_at_a_time_and_the_stream_goes_on(make):
    setup = make(keyframes="all", keyframe_min_interval=0.0)
    setup.serve()
    for _ in range(5):
        assert setup.answer()
    assert setup.graph.until(setup.goals)
    assert len(setup.goals()) == 1
    setup.server.end()
    assert setup.graph.until(lambda: not setup.node._refine.busy)
    setup.answer()
    assert setup.graph.until(lambda: len(setup.goals()) == 2)
    assert (setup.node._refine.sent, setup.node._refine.ended) == (2, 1)


def test_a_rejected_keyframe_of_a_still_camera_is_sent_again(make):
    setup = make(keyframes="motion", keyframe_min_interval=0.0)
    setup.serve()
    setup.server.accept = False
    setup.answer()
    assert setup.graph.until(lambda: setup.node._refine.last == "rejected by the server")
    setup.server.accept = True
    for _ in range(int(1.2 / 0.04)):  # beyond RETRY_INTERVAL, by the stamps
        setup.camera.next_header()
    setup.answer()
    assert setup.graph.until(setup.goals)
    setup.server.end()
    assert setup.graph.until(lambda: not setup.node._refine.busy)
    setup.answer()
    assert setup.node._refine.sent == 2


def test_none_sends_no_keyframes_and_refuses_requests(setup):
    setup.serve()
    setup.answer()
    response = setup.refine_now()
    assert not response.success
    assert "the parameter keyframes is none" in response.message
    assert setup.node._refine.sent == 0


def test_a_request_without_a_server_names_the_remedy(make):
    setup = make(keyframes="on_request")
    response = setup.refine_now()
    assert not response.success
    assert "there is no action server /refine: start refine_server" in response.message


def test_deactivating_while_a_keyframe_is_refined_keeps_its_place(make):
    setup = make(keyframes="all", keyframe_min_interval=0.0)
    setup.serve()
    setup.answer()
    assert setup.graph.until(setup.goals)
    setup.node.trigger_deactivate()
    setup.node.trigger_activate()
    assert setup.answer()
    assert setup.node._refine.sent == 1
    setup.server.end()
    assert setup.graph.until(lambda: not setup.node._refine.busy)
    setup.answer()
    assert setup.graph.until(lambda: len(setup.goals()) == 2)


# Anchors.


def test_anchors_of_a_depth_camera_give_metres(make):
    setup = make(keyframes="none", anchors="depth", anchor_tolerance=0.01)
    anchors = setup.other.create_publisher(Image, "anchors/depth", 10)
    assert setup.graph.until(anchors.get_subscription_count)
    assert np.isnan(depth_array(setup.answer())).all()
    assert setup.node._scale_health().message == "depth is invalid: no usable anchors yet"
    truth = (6.0 / (setup.node.network.output(sample_image()) + 0.4)).numpy()
    header = setup.camera.next_header()
    anchors.publish(image_to_msg(truth, "32FC1", header))
    assert setup.graph.until(lambda: setup.node._anchors._messages.nearest(header.stamp, 0.0))
    np.testing.assert_allclose(depth_array(setup.answer(header=header)), truth, rtol=0.02)
    frame = setup.frame(nanoseconds(header.stamp))
    assert frame.scale == pytest.approx(6.0, rel=0.02)
    assert frame.shift == pytest.approx(0.4, abs=0.05)
    assert np.nanmax(np.abs(depth_array(frame.anchors) / truth - 1.0)) < 1e-6
    setup.serve()
    setup.set(keyframes="all")
    setup.answer()
    assert setup.graph.until(setup.goals)
    assert setup.goals()[0].scale == pytest.approx(6.0, rel=0.02)
    assert not setup.goals()[0].anchors.data  # this frame has none of its own


def test_anchors_of_a_lidar_give_metres(make):
    setup = make(keyframes="none", anchors="points")
    clouds = setup.other.create_publisher(PointCloud2, "anchors/points", 10)
    assert setup.graph.until(clouds.get_subscription_count)
    truth = 6.0 / (setup.node.network.output(sample_image()) + 0.4)
    header = setup.camera.next_header()
    clouds.publish(points_to_msg(CAMERA.points(truth).numpy(), sample_image(), header))
    assert setup.graph.until(lambda: setup.node._anchors._messages.nearest(header.stamp, 0.0))
    np.testing.assert_allclose(depth_array(setup.answer(header=header)), truth.numpy(), rtol=0.02)


def test_a_network_that_needs_a_prompt_answers_images_with_anchors(
    ros, set_parameters, tmp_path, monkeypatch
):
    pytest.importorskip("transformers")
    from prompt_networks import save_prompt_network

    network = load_depth_network(save_prompt_network(tmp_path), device="cpu")
    monkeypatch.setattr(FakeRedepthNode, "load", lambda node, settings: network)
    setup = Setup(set_parameters, keyframes="all", anchors="depth", anchor_tolerance=0.01)
    try:
        anchors = setup.other.create_publisher(Image, "anchors/depth", 10)
        assert setup.graph.until(anchors.get_subscription_count)
        assert setup.graph.until(lambda: setup.camera.send() and setup.node._statistics.unprompted)
        assert not setup.graph.received["depth/image"]
        assert setup.node._scale_health().message == "depth is invalid: no usable anchors yet"
        setup.serve()
        measured = np.linspace(4.0, 2.0, 24, dtype=np.float32)[:, None].repeat(32, 1)
        header = setup.camera.next_header()
        anchors.publish(image_to_msg(measured, "32FC1", header))
        assert setup.graph.until(lambda: setup.node._anchors._messages.nearest(header.stamp, 0.0))
        depth = depth_array(setup.answer(header=header))
        assert 1.5 < np.nanmedian(depth) < 4.5
        assert setup.node._scale_health().values["depth"].startswith("in metres, by anchors")
        assert setup.graph.until(setup.goals)
        np.testing.assert_allclose(depth_array(setup.goals()[0].anchors), measured, rtol=1e-6)
    finally:
        setup.close()


def test_a_keyframe_has_the_scale_of_its_calibration(make, monkeypatch):
    monkeypatch.setattr(FakeDepthNetwork, "scale_source", "calibration")
    setup = make(keyframes="all", keyframe_min_interval=0.0)
    setup.serve()
    setup.answer()
    assert setup.graph.until(setup.goals)
    assert scale_from_msg(setup.goals()[0]).scale == pytest.approx(CAMERA.fx / 300.0)
    assert setup.node._scale_health().message == "depth is in metres, by the calibration of the camera"


def test_the_camera_height_gives_metres(make):
    """The brightness of the image makes the disparity of a flat ground."""
    setup = make(keyframes="none", anchors="height", camera_height=1.5, shift=-0.2)
    down = (np.arange(24.0) - CAMERA.cy) / CAMERA.fy
    brightness = np.clip(2.0 * down, 0.0, None)
    image = np.repeat(np.repeat((255.0 * brightness).round()[:, None, None], 32, 1), 3, 2).astype(np.uint8)
    assert setup.set(camera_height=1.0)[0]
    for _ in range(6):
        depth = depth_array(setup.answer(image))
    np.testing.assert_allclose(depth[14:], 1.0 / down[14:, None] * np.ones((1, 32)), rtol=0.05)
    assert "the image has no camera_info" not in setup.node.log.last


# Diagnostics.


def test_diagnostics_compose_stream_and_scale(setup):
    for _ in range(3):
        setup.answer()
    stream, scale = setup.node._stream_health(), setup.node._scale_health()
    values = {**stream.values, **scale.values}
    assert values["frames out"] >= 4
    assert float(values["rate out (Hz)"]) > 0
    assert float(values["latency median (ms)"]) >= float(values["model time median (ms)"]) > 0
    assert (values["keyframes sent"], values["last keyframe"]) == (0, "none")
    assert "not metres" in scale.message
    setup.node._statistics.received._events.clear()
    assert setup.node._stream_health().level == DiagnosticStatus.WARN
    assert setup.node._stream_health().message == "no images on /image"


def test_tick_follows_a_camera_that_offers_best_effort_only(setup):
    quality = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = setup.other.create_publisher(Image, "image", quality)

    def send():
        setup.node.tick()
        message = image_at(time.monotonic() + 10_000.0)
        publisher.publish(message)
        setup.graph.spin(0.1)
        return setup.graph.at_stamp("depth/image", nanoseconds(message.header.stamp))

    assert setup.graph.until(send)


def test_a_camera_that_sends_nothing_is_a_warning_that_names_the_topic(make, monkeypatch):
    setup = make(keyframes="none")
    later = time.monotonic() + 10.0
    monkeypatch.setattr("redepth_ros.ros.streams.silence_watch.time.monotonic", lambda: later)
    setup.node.tick()
    assert setup.node.log.last.startswith("no message on /image for 1")
    assert "/camera_and_listener (sensor_msgs/msg/Image, reliable, volatile); they fit" in setup.node.log.last


def test_a_constant_calibration_is_used_for_every_image(setup):
    setup.graph.spin(0.1)
    setup.node._camera_infos._messages.clear()
    info = camera_to_msg(CAMERA, header_at(0.0))
    setup.node._camera_infos.add(info)
    message = setup.answer(info=False)
    stamp = nanoseconds(message.header.stamp)
    found = setup.graph.wait_for("depth/camera_info", stamp)
    assert found.header == message.header
    assert setup.frame(stamp).camera_info == found


def test_errors_that_do_not_go_away_lead_through_the_error_state(setup):
    setup.node.network.error = RuntimeError("CUDA error: device-side assert triggered")
    assert setup.graph.until(lambda: setup.camera.send() and not setup.node.active)
    assert setup.graph.until(lambda: setup.node._state_machine.current_state[1] == "unconfigured")
    assert setup.node.failure.startswith(
        "5 unexpected errors in a row, the last one: RuntimeError: CUDA error"
    )
    health = setup.node._state()
    assert (health.level, health.message) == (DiagnosticStatus.ERROR, setup.node.failure)
    setup.node.trigger_configure()
    setup.node.trigger_activate()
    setup.connect()
    assert setup.answer()


def test_a_camera_far_faster_than_the_network_costs_little_and_every_depth_has_a_calibration(
    setup, monkeypatch
):
    setup.node.network.delay = 0.02
    # For a machine that leaves this process alone for a while: a few ms of this camera fill the queue.
    assert setup.set(camera_info_tolerance=0.2)[0]
    monkeypatch.setattr(depth_topics, "CAMERA_INFO_TIMEOUT", 1.0)
    first, taken = time.monotonic(), setup.node._statistics.received.total
    depths = setup.graph.received["depth/image"]
    depths.clear()
    ended = threading.Event()

    def send():
        while not ended.is_set():
            setup.camera.send(header=Header(stamp=time_from_nanoseconds(time.time_ns()), frame_id="camera"))
            time.sleep(0.0005)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert setup.graph.until(lambda: len(depths) > 15 and time.monotonic() - first > 1.0)
    finally:
        ended.set()
        sender.join()
    assert setup.node._statistics.received.total - taken < 250 * (time.monotonic() - first)
    stamps = [nanoseconds(message.header.stamp) for message in depths]

    def without_calibration():
        return [stamp for stamp in stamps if setup.graph.at_stamp("depth/camera_info", stamp) is None]

    assert setup.graph.until(lambda: not without_calibration()), (
        f"{len(without_calibration())} of {len(stamps)}"
    )


def test_the_network_is_loaded_with_the_runtime_of_the_parameter(setup, monkeypatch):
    settings = DepthSettings(model="tiny", device="cpu", runtime="openvino")
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match="runtime is 'openvino', but openvino is not installed: pip install"
    ):
        RedepthNode.load(setup.node, settings)
