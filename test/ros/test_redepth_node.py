"""redepth_node as a process with the embedded network: what the README promises."""

import os
import signal

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from graph import CAMERA, depth_array, sample_image
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CompressedImage, Image, PointCloud2

from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.msgs.time import time_from_nanoseconds


def test_depth_is_that_of_the_network_with_the_header_of_the_image(probe):
    depth = probe.depth_of(probe.send())
    assert (depth.height, depth.width, depth.encoding) == (CAMERA.height, CAMERA.width, "32FC1")
    assert depth.header.frame_id == "camera"
    assert depth.step == 4 * CAMERA.width
    expected = 1.0 / DepthAnything.load("tiny", device="cpu").predict(sample_image()).numpy()
    np.testing.assert_allclose(depth_array(depth), expected, rtol=1e-3)


def test_camera_info_colours_points_and_stddev_belong_to_the_depth(probe):
    probe.listen(Image, "depth/color", "depth/stddev")
    probe.listen(PointCloud2, "depth/points")
    topics = ("depth/image", "depth/camera_info", "depth/color", "depth/stddev", "depth/points")
    stamp = probe.sent_until(*topics)
    messages = {topic: probe.at_stamp(topic, stamp) for topic in topics}
    depth = depth_array(messages["depth/image"])
    assert all(message.header == messages["depth/image"].header for message in messages.values())
    assert messages["depth/camera_info"].k[0] == CAMERA.fx
    assert messages["depth/color"].encoding == "rgb8"
    assert (depth_array(messages["depth/stddev"]) >= 0.0999 * depth).all()
    cloud = messages["depth/points"]
    assert (cloud.height, cloud.width, cloud.point_step) == (96, 128, 16)
    points = np.frombuffer(cloud.data, np.float32).reshape(96, 128, 4)
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-6)


def test_parameters_change_at_run_time_and_invalid_ones_are_refused(probe):
    plain = depth_array(probe.depth_of(probe.send()))
    assert probe.set_parameters(scale=2.0, depth_encoding="16UC1") == (True, "; ")
    message = probe.depth_of(probe.send())
    assert message.encoding == "16UC1"
    fits = 2 * plain < 65.5
    np.testing.assert_allclose(depth_array(message)[fits], 2000 * plain[fits], atol=1.0)
    assert probe.set_parameters(scale=1.0, depth_encoding="32FC1")[0]
    for name, value, words in (
        ("scale", -1.0, "-1.0"),
        ("depth_encoding", "64FC1", "'64FC1'"),
        ("input_size", 9, "at least its patch, 10"),
        ("model", "other", "deactivate and clean up"),
    ):
        successful, reason = probe.set_parameters(**{name: value})
        assert not successful
        assert name in reason
        assert words in reason
    described = probe.describe("scale", "input_size")
    assert described["scale"].floating_point_range[0].to_value == 1e6
    assert described["input_size"].integer_range[0].to_value == 4096
    assert described["scale"].description.startswith("Depth is scale / (disparity + shift)")


def test_diagnostics_report_the_stream(probe):
    _, message, values = probe.diagnostics(
        lambda values: float(values["rate out (Hz)"]) > 0,
        level=DiagnosticStatus.OK,
        meanwhile=probe.send,
        period=0.2,
    )
    assert "not metres" in message
    assert (values["model"], values["device"], values["precision"]) == ("tiny", "cpu", "float32")
    assert float(values["memory (MiB)"]) > 50


def test_bad_images_are_skipped_with_a_warning_that_is_throttled(probe):
    probe.received["/rosout"].clear()
    before = int(probe.diagnostics()[2]["warnings"])

    def send():
        return probe.send(Image(height=96, width=128, encoding="yuv999", step=384, data=bytes(96 * 384)))

    stamps = []
    probe.diagnostics(
        lambda values: int(values["warnings"]) >= before + 5,
        level=DiagnosticStatus.WARN,
        message="'yuv999'",
        meanwhile=lambda: stamps.append(send()),
        period=0.05,
    )
    logged = [m.msg for m in probe.received["/rosout"] if "'yuv999'" in m.msg]
    assert len(logged) == 1
    assert logged[0].startswith("frame skipped: ")
    assert probe.depth_of(probe.send())
    assert not any(probe.at_stamp("depth/image", stamp) for stamp in stamps)


def test_frames_are_handed_out_by_their_stamp(probe):
    stamp = probe.send()
    probe.depth_of(stamp)
    for wanted in (stamp, 0):
        request = GetFrame.Request(stamp=time_from_nanoseconds(wanted))
        response = probe.call(GetFrame, "/get_frame", request)
        assert response.success
        assert response.image.header.stamp == time_from_nanoseconds(stamp)
    response = probe.call(GetFrame, "/get_frame", GetFrame.Request(stamp=time_from_nanoseconds(7)))
    assert "raise frame_buffer_size" in response.message


def test_a_best_effort_camera_is_received(nodes, make_probe):
    make_probe(reliable=False).sent_until("depth/image")


def test_threads_and_memory_stay_level_over_transitions(probe, nodes):
    import psutil

    process = psutil.Process(nodes["redepth_node"].popen.pid)

    def cycle(count):
        for _ in range(count):
            assert probe.change_state("deactivate", "activate")
            probe.send()
        probe.sent_until("depth/image")

    cycle(3)
    threads, memory = process.num_threads(), process.memory_info().rss
    cycle(20)
    assert probe.until(lambda: process.num_threads() <= threads)
    assert probe.until(lambda: process.memory_info().rss < memory + 30 * 2**20)
    assert not probe.change_state("configure")  # not possible while active
    assert probe.state() == "active"


@pytest.fixture(scope="module")
def offline(start, ros, tmp_path_factory):
    """A node that starts with wrong parameters, without a network and an empty cache."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path_factory.mktemp("cache"))}
    parameters = {
        "model": "someone/depth",
        "max_depth": -3.0,
        "input_size": 64.5,
        "transport": "compressed",
        "device": "cpu",
        "threads": 1,
    }
    return start("redepth_node", parameters, "/offline", environment)


def test_a_node_with_wrong_parameters_and_no_network_can_be_corrected(offline, make_probe):
    """One process that goes from a wrong start to depth of compressed images, and ends at a signal."""
    probe = make_probe("/offline")
    message = probe.diagnostics(level=DiagnosticStatus.ERROR, message="can't configure")[1]
    assert "-3.0" in message
    assert "64.5" in message
    assert probe.state() == "unconfigured"
    assert probe.set_parameters(max_depth=1000.0)[0]
    assert not probe.change_state("configure"), "input_size is still wrong"
    assert probe.set_parameters(input_size=0)[0]
    assert not probe.change_state("configure")
    probe.diagnostics(level=DiagnosticStatus.ERROR, message="model 'someone/depth' is not in the cache")
    assert probe.set_parameters(model="tiny")[0]
    assert probe.change_state("configure", "activate")

    def send():
        data = cv2.imencode(".jpg", sample_image()[..., ::-1])[1].tobytes()
        return probe.send(CompressedImage(format="jpeg", data=data))

    assert depth_array(probe.at_stamp("depth/image", probe.sent_until("depth/image", send=send))).any()
    offline.signal(signal.SIGTERM)
    assert offline.wait() == 0
    assert "Traceback" not in offline.output()
