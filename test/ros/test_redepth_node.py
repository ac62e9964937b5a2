"""redepth_node in a process of its own: what it publishes for good images."""

import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from conftest import CAMERA, PATIENCE, Probe, depth_of, picture, raw_message
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import Intrinsics
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.msgs.images import encode_image

TINY = {"model": "tiny", "device": "cpu", "max_depth": 1000.0}


@pytest.fixture(scope="module")
def node(start, ros):
    process = start("redepth_node", TINY)
    probe = Probe()
    probe.wait_until_served()
    probe.executor_.shutdown()
    probe.destroy_node()
    return process


@pytest.fixture
def served(node, probe):
    """A probe whose images reach the node."""
    probe.wait_until_served()
    return probe


def test_depth_is_the_models_with_the_images_header_and_size(served):
    stamp = served.send()
    depth = served.answer(stamp)
    assert (depth.height, depth.width, depth.encoding) == (CAMERA.height, CAMERA.width, "32FC1")
    assert depth.header.frame_id == "camera"
    assert depth.step == 4 * CAMERA.width
    expected = 1.0 / DepthAnything.load("tiny", device="cpu").predict(picture()).numpy()
    np.testing.assert_allclose(depth_of(depth), expected, rtol=1e-3)


def test_camera_info_is_the_images_own(served):
    stamp = served.served_on("depth/image", "depth/camera_info")
    info = served.of_stamp("depth/camera_info", stamp)
    assert info.header == served.answer(stamp).header
    assert (info.k[0], info.k[2], info.width, info.height) == (100.0, 63.5, 128, 96)


def test_points_and_colours_come_when_subscribed(served):
    served.listen_to_colours_and_points()
    stamp = served.served_on("depth/image", "depth/color", "depth/points")
    cloud, depth = served.of_stamp("depth/points", stamp), depth_of(served.answer(stamp))
    assert (cloud.height, cloud.width, cloud.point_step) == (96, 128, 16)
    points = np.frombuffer(cloud.data, np.float32).reshape(96, 128, 4)
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-6)
    np.testing.assert_allclose(points[10, 20, 0], depth[10, 20] * (20 - 63.5) / 100.0, rtol=1e-5)
    np.testing.assert_allclose(points[10, 20, 1], depth[10, 20] * (10 - 47.5) / 100.0, rtol=1e-5)
    colours = np.frombuffer(cloud.data, np.uint32).reshape(96, 128, 4)[..., 3]
    r, g, b = picture()[10, 20]
    assert colours[10, 20] == (int(r) << 16 | int(g) << 8 | int(b))
    colour = served.answer(stamp, "depth/color")
    assert (colour.encoding, colour.height, colour.width) == ("rgb8", 96, 128)


def test_parameters_change_what_is_published_at_run_time(served):
    plain = depth_of(served.answer(served.send()))
    assert served.set_parameter("scale", 2.0) == (True, "")
    np.testing.assert_allclose(depth_of(served.answer(served.send())), 2 * plain, rtol=1e-4)
    assert served.set_parameter("depth_encoding", "16UC1")[0]
    millimetres = served.answer(served.send())
    assert millimetres.encoding == "16UC1"
    fits = 2 * plain < 65.5
    np.testing.assert_allclose(depth_of(millimetres)[fits], 2000 * plain[fits], atol=1.0)
    limit = float(2 * np.median(plain))
    assert served.set_parameter("max_depth", limit)[0]
    beyond = 2 * plain > limit * 1.001
    assert (depth_of(served.answer(served.send()))[beyond] == 0).all()
    assert served.set_parameter("depth_encoding", "32FC1")[0]
    assert np.isnan(depth_of(served.answer(served.send()))[beyond]).all()
    for name, value in (("scale", 1.0), ("max_depth", 1000.0)):
        assert served.set_parameter(name, value)[0]


@pytest.mark.parametrize(
    ("name", "value", "quoted"),
    [
        ("scale", -1.0, "-1.0"),
        ("input_size", 9999, "9999"),
        ("input_size", -5, "-5"),
        ("depth_encoding", "64FC1", "'64FC1'"),
        ("max_depth", float("nan"), "nan"),
        ("min_depth", 2000.0, "2000.0"),
        ("input_size", 9, "at least its patch, 10"),
        ("model", "other", "deactivate and clean up"),
        ("device", "cuda", "deactivate and clean up"),
    ],
)
def test_a_parameter_that_can_not_be_is_refused_with_a_reason(served, name, value, quoted):
    successful, reason = served.set_parameter(name, value)
    assert not successful
    assert quoted in reason
    assert name in reason
    assert served.is_served()


def test_every_parameter_is_described(served):
    names = ["model", "scale", "input_size", "depth_encoding"]
    described = {d.name: d for d in served.describe(names)}
    assert all(described[name].description for name in names)
    assert described["scale"].floating_point_range[0].to_value == 1e6
    assert described["input_size"].integer_range[0].to_value == 4096
    assert "16UC1" in described["depth_encoding"].description


def test_diagnostics_say_what_goes_on(served):
    def goes_on(values):
        latency, model_time = (float(values[f"{name} median (ms)"]) for name in ("latency", "model time"))
        return float(values["rate out (Hz)"]) > 0 and latency >= model_time > 0

    # While images come: without them, and for 5 s after a complaint, it warns.
    found = served.diagnosis(goes_on, level=DiagnosticStatus.OK, meanwhile=served.send, period=0.2)
    assert found, served.diagnosis()
    _, message, values = found
    assert "not metres" in message
    assert int(values["frames out"]) > 0
    assert (values["model"], values["device"], values["precision"]) == ("tiny", "cpu", "float32")
    assert float(values["memory (MiB)"]) > 50


def test_services_answer_while_the_model_runs(served):
    """With inputs of 1,200 pixels the model takes long; a parameter is set within that time."""
    # Made before: to find a service takes time, too.
    frames = served.create_client(GetFrame, "get_frame")
    parameters = served.create_client(SetParameters, f"{served.target}/set_parameters")
    assert served.until(lambda: frames.service_is_ready() and parameters.service_is_ready())
    nearest = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=0.0)
    nearest = SetParameters.Request(parameters=[Parameter(name="min_depth", value=nearest)])

    def answer_of(client, request):
        future = client.call_async(request)
        assert served.until(future.done)
        return future.result()

    assert served.set_parameter("input_size", 1200)[0]
    before = served.diagnosis()[2]
    header = served.next_header()
    stamp = served.send(header=header)
    # A frame that is handed out has come, and the model had nothing else to do.
    assert served.until(lambda: answer_of(frames, GetFrame.Request(stamp=header.stamp)).success)
    assert answer_of(parameters, nearest).results[0].successful
    assert served.of_stamp("depth/image", stamp) is None, "the model was done before the services"
    # One after the other: all at once, the middleware itself would keep the newest only.
    after = served.diagnosis(
        lambda values: int(values["frames overwritten"]) > int(before["frames overwritten"]),
        meanwhile=served.send, period=0.1,
    )  # fmt: skip
    assert after, "frames that came meanwhile were not overwritten"
    assert served.set_parameter("input_size", 0)[0]
    assert served.answer(stamp)
    assert served.is_served()
    for client in (frames, parameters):
        served.destroy_client(client)


def test_an_image_without_camera_info_has_depth_but_no_camera_info(served):
    served.spin(0.05)  # farther than camera_info_tolerance from the last one that had some
    for stamp in served.complaint("no camera_info within 0.01 s", lambda: served.send(info=None)):
        assert served.answer(stamp)
        assert served.of_stamp("depth/camera_info", stamp) is None


def test_camera_info_of_another_size_is_not_used(served):
    other = Intrinsics(100.0, 100.0, 63.5, 47.5, 640, 480)
    words = "camera_info is for 640x480 pixels, the image has 128x96"
    for stamp in served.complaint(words, lambda: served.send(info=other)):
        assert served.answer(stamp)
        assert served.of_stamp("depth/camera_info", stamp) is None


def nan_image():
    return encode_image(np.full((96, 128), np.nan, np.float32), "32FC1", Header())


@pytest.mark.parametrize(
    ("make", "quoted"),
    [
        (lambda: raw_message(96, 128, "yuv999", 384, 96 * 384), "image encoding 'yuv999' is not known"),
        (lambda: raw_message(96, 128, "rgb8", 384, 500), "500 bytes of data"),
        (lambda: raw_message(96, 128, "bgr8", 10, 96 * 384), "bgr8 has a step of 10"),
        (lambda: raw_message(0, 0, "rgb8", 0, 0), "image of 0x0 pixels"),
        (nan_image, "12288 NaN or infinite of 12288"),
        (lambda: raw_message(5774, 8660, "mono8", 8660, 5774 * 8660), "is 50.0 megapixels"),
    ],
)
def test_a_bad_image_is_skipped_with_a_message_and_the_next_is_served(served, make, quoted):
    stamps = served.complaint(quoted, lambda: served.send(make()))
    assert served.is_served()
    assert not any(served.of_stamp("depth/image", stamp) for stamp in stamps)


def test_messages_of_one_kind_are_throttled(served):
    """How many are logged in a period, see test_complaints.py."""
    before = int(served.diagnosis()[2]["complaints"])
    served.received["/rosout"].clear()

    def said():
        return [m.msg for m in served.received["/rosout"] if "'none' is not known" in m.msg]

    def send():
        served.send(raw_message(96, 128, "none", 384, 96 * 384))

    assert served.until(said, meanwhile=send, period=0.05), "nothing was logged"
    found = served.diagnosis(
        lambda values: int(values["complaints"]) >= before + 5,
        level=DiagnosticStatus.WARN, meanwhile=send, period=0.05,
    )  # fmt: skip
    assert found, "diagnostics should warn of what is skipped"
    assert served.is_served()
    assert 1 <= len(said()) < int(found[2]["complaints"]) - before


def test_a_stamp_of_zero_is_skipped(served):
    served.complaint("stamp of zero", lambda: served.send(header=Header(frame_id="camera")))
    assert served.of_stamp("depth/image", 0) is None
    assert served.is_served()


def test_a_stamp_that_goes_back_is_skipped_and_then_followed(served):
    assert served.is_served()
    early = served.next_header()

    def send_earlier():
        early.stamp.sec -= 1000
        return served.send(header=early)

    stamps = served.complaint("image stamp went back from", send_earlier)
    assert not any(served.of_stamp("depth/image", stamp) for stamp in stamps)
    early.stamp.sec += 1
    assert served.answer(served.send(header=early)), "time that began again is not followed"
    assert served.is_served()


def test_deactivated_it_is_silent_and_activated_it_serves_again(served):
    assert served.change_state(Transition.TRANSITION_DEACTIVATE)
    assert served.state() == "inactive"
    stamp = served.send()
    served.spin(1.0)
    assert served.of_stamp("depth/image", stamp) is None
    assert served.diagnosis(message="^inactive$")
    assert served.change_state(Transition.TRANSITION_ACTIVATE)
    assert served.is_served()


def test_a_transition_that_the_state_does_not_allow_is_refused(served):
    assert not served.change_state(Transition.TRANSITION_ACTIVATE)
    assert not served.change_state(Transition.TRANSITION_CONFIGURE)
    assert served.state() == "active"
    assert served.is_served()


def test_a_model_that_can_not_be_loaded_fails_the_transition_and_another_works(served):
    assert served.change_state(Transition.TRANSITION_DEACTIVATE)
    assert served.change_state(Transition.TRANSITION_CLEANUP)
    assert served.set_parameter("model", "/no/such/model")[0]
    assert not served.change_state(Transition.TRANSITION_CONFIGURE)
    assert served.state() == "unconfigured"
    assert served.diagnosis(level=DiagnosticStatus.ERROR, message="'/no/such/model' is not a folder")
    assert served.set_parameter("model", "tiny")[0]
    assert served.change_state(Transition.TRANSITION_CONFIGURE)
    assert served.change_state(Transition.TRANSITION_ACTIVATE)
    served.wait_until_served()
    assert served.diagnosis(level=DiagnosticStatus.OK, meanwhile=served.send, period=0.2)


def test_threads_and_memory_stay_level_over_many_transitions(served, node):
    import psutil

    process = psutil.Process(node.popen.pid)

    def cycle():
        assert served.change_state(Transition.TRANSITION_DEACTIVATE)
        assert served.change_state(Transition.TRANSITION_ACTIVATE)
        served.send()

    for _ in range(5):
        cycle()
    served.wait_until_served()
    threads, memory = process.num_threads(), process.memory_info().rss
    for _ in range(25):
        cycle()
    served.wait_until_served()
    assert served.until(lambda: process.num_threads() <= threads)
    assert served.until(lambda: process.memory_info().rss < memory + 30 * 2**20)


def test_a_best_effort_camera_is_heard(node, ros):
    probe = Probe(reliable=False)
    try:
        probe.wait_until_served()
    finally:
        probe.executor_.shutdown()
        probe.destroy_node()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(start, ros, number):
    process = start("redepth_node", TINY, "/ending")
    probe = Probe("ending/redepth_node")
    try:
        assert probe.until(lambda: probe.state_is("active"))
    finally:
        probe.executor_.shutdown()
        probe.destroy_node()
    assert process.stop(number) == 0, process.said()
    assert "Traceback" not in process.said()


def test_a_wrong_parameter_at_start_is_reported_and_can_be_set_right(start, ros):
    process = start("redepth_node", {**TINY, "max_depth": -3.0, "input_size": 64.5}, "/wrong")
    probe = Probe("wrong/redepth_node")
    try:
        said = probe.diagnosis(message="can't configure")[1]
        assert "-3.0" in said
        assert "64.5" in said
        assert probe.state() == "unconfigured"
        assert probe.set_parameter("max_depth", 50.0)[0]
        assert not probe.change_state(Transition.TRANSITION_CONFIGURE), "input_size is still wrong"
        assert probe.set_parameter("input_size", 64)[0]
        assert probe.change_state(Transition.TRANSITION_CONFIGURE)
        assert probe.state() == "inactive"
    finally:
        probe.executor_.shutdown()
        probe.destroy_node()
        process.stop()


def test_compressed_images(start, ros):
    process = start("redepth_node", {**TINY, "transport": "compressed"}, "/packed")
    probe = Probe("packed/redepth_node")
    publisher = probe.create_publisher(CompressedImage, "/packed/image/compressed", 5)
    probe.listen(Image, "/packed/depth/image")
    messages = probe.received["/packed/depth/image"]

    def send(data):
        message = CompressedImage(header=probe.next_header(), format="jpeg")
        message.data = data
        publisher.publish(message)

    try:
        jpeg = cv2.imencode(".jpg", picture()[..., ::-1])[1].tobytes()
        assert probe.until(lambda: messages, meanwhile=lambda: send(jpeg), period=0.5)
        assert (messages[0].height, messages[0].width) == (96, 128)
        probe.complaint("200 bytes can't be decoded", lambda: send(jpeg[:200]))
    finally:
        probe.executor_.shutdown()
        probe.destroy_node()
        process.stop()


def test_a_node_starts_without_a_network_or_a_cache_and_says_what_to_do(tmp_path):
    command = [
        sys.executable,
        "-m",
        "redepth_ros.nodes.redepth_node",
        "--ros-args",
        "-p",
        "model:=someone/depth",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path)}
    log = tmp_path / "log"
    with (
        log.open("w") as stream,
        subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT) as process,
    ):
        end = time.monotonic() + PATIENCE
        while "can't configure" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.2)
        assert process.poll() is None, "the process should live on, unconfigured"
        process.send_signal(signal.SIGINT)
    assert "can't configure: model 'someone/depth' is not in the cache" in log.read_text()
