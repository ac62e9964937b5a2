"""Keyframes of redepth_node, refined by a refine_server beside it."""

import numpy as np
import pytest
from conftest import PATIENCE, Probe, depth_of, picture
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from redepth_ros.ros.msgs.images import encode_image
from redepth_ros.ros.streams.message_cache import nanoseconds

SERVER = {"model": "tiny", "prior": "tiny", "members": 1, "steps": 3}


@pytest.fixture(scope="module")
def fast(start):
    return start("redepth_node", {"model": "tiny", "threads": 1, "keyframe_spacing": 0.0})


@pytest.fixture(scope="module")
def servers(start):
    """Starts a server, and keeps track of the newest."""
    running = []

    def start_server():
        running.append(start("refine_server", SERVER))
        return running[-1]

    start_server()
    return running, start_server


@pytest.fixture
def camera(ros, fast, servers):
    node = Probe()
    node.listen(Image, "refined/depth")
    node.listen(Image, "refined/image")
    node.wait_until_served()
    node.set_parameter("keyframes", "none")
    assert node.diagnosis(lambda values: values["keyframes sent"] == values["keyframes ended"])
    node.since = node._stamp
    yield node
    node.set_parameter("keyframes", "none")
    node.executor_.shutdown()
    node.destroy_node()


def stream_until(camera, condition, seconds=PATIENCE, send=None):
    """Send images at some 20 Hz until a condition holds; the stamps that were sent."""
    stamps = []
    came = camera.until(condition, seconds, lambda: stamps.append((send or camera.send)()), 0.05)
    assert came, "it did not come to that"
    return stamps


def refined(camera):
    """Stamps of refined depth; that of a keyframe of the test before may come late, and is left out."""
    stamps = [nanoseconds(message.header.stamp) for message in camera.received["refined/depth"]]
    return [stamp for stamp in stamps if stamp > camera.since]


def test_none_sends_none(camera):
    assert camera.set_parameter("keyframes", "none")[0]
    before = camera.diagnosis()[2]["keyframes sent"]
    for _ in range(20):
        camera.send()
        camera.spin(0.02)
    assert camera.is_served()
    assert camera.diagnosis()[2]["keyframes sent"] == before
    assert not camera.call(Trigger, "refine_now", Trigger.Request()).success


def test_all_refines_what_the_server_can_take_and_the_stream_goes_on(camera):
    assert camera.set_parameter("keyframes", "all")[0]
    sent = stream_until(camera, lambda: len(refined(camera)) >= 3)
    found = refined(camera)
    assert set(found) <= set(sent)
    assert found == sorted(found)
    assert camera.answer(found[0], "refined/image") is not None
    assert len(camera.received["depth/image"]) > len(found)
    values = camera.diagnosis(lambda values: "moved by" in values["last keyframe"])[2]
    assert int(values["keyframes sent"]) - int(values["keyframes ended"]) <= 1


def test_refined_depth_has_the_size_and_unit_of_the_fast_one(camera):
    camera.set_parameter("keyframes", "all")

    def find():
        return next((one for one in refined(camera) if camera.of_stamp("depth/image", one)), None)

    stream_until(camera, find)
    stamp = find()
    fast, slow = (depth_of(camera.answer(stamp, name)) for name in ("depth/image", "refined/depth"))
    assert fast.shape == slow.shape
    assert 0.8 < np.nanmedian(slow / fast) < 1.25


def test_interval_keeps_its_distance(camera):
    camera.set_parameter("keyframe_interval", 1.0)
    camera.set_parameter("keyframes", "interval")
    stream_until(camera, lambda: len(refined(camera)) >= 3)
    assert np.diff(refined(camera)).min() >= 1_000_000_000


def test_motion_waits_until_something_else_is_seen(camera):
    camera.set_parameter("keyframe_motion", 0.02)
    camera.set_parameter("keyframes", "motion")
    stream_until(camera, lambda: refined(camera))
    camera.since = camera._stamp
    for _ in range(30):
        camera.send()
        camera.spin(0.03)
    assert not refined(camera)
    other = np.ascontiguousarray(255 - picture()[::-1, ::-1])

    def send_other():
        header = camera.next_header()
        return camera.send(encode_image(other, "rgb8", header), header=header)

    stamps = stream_until(camera, lambda: refined(camera), send=send_other)
    assert set(refined(camera)) <= set(stamps)


def test_on_request_refines_one(camera):
    camera.set_parameter("keyframes", "on_request")
    camera.spin(0.5)
    for _ in range(10):
        camera.send()
        camera.spin(0.03)
    assert not refined(camera)

    def ask():
        answers.append(camera.call(Trigger, "refine_now", Trigger.Request()))
        return answers[-1].success

    answers = []
    assert camera.until(ask), answers[-1].message  # until the server is found
    stream_until(camera, lambda: refined(camera))
    for _ in range(10):
        camera.send()
        camera.spin(0.03)
    assert len(refined(camera)) == 1


def test_a_goal_of_a_stamp_gets_its_frame_from_the_fast_node(camera):
    stamps = [camera.send() for _ in range(3) if camera.until(lambda: True)]
    assert camera.answer(stamps[-1])
    client = ActionClient(camera, RefineDepth, "refine")

    def accepted(goal):
        """The handle of a goal; None from a server that is not active yet."""
        future = client.send_goal_async(goal)
        assert camera.until(future.done)
        return future.result() if future.result().accepted else None

    def result_of(goal):
        handle = camera.until(lambda: accepted(goal))
        assert handle
        answer = handle.get_result_async()
        assert camera.until(answer.done)
        return answer.result().result

    try:
        goal = RefineDepth.Goal()
        goal.stamp.sec, goal.stamp.nanosec = divmod(stamps[-1], 10**9)
        assert camera.until(client.server_is_ready)  # a goal sent before is lost
        result = result_of(goal)
        assert result.outcome == RefineDepth.Result.OUTCOME_REFINED
        assert nanoseconds(result.depth.header.stamp) == stamps[-1]
        goal.stamp.sec = 12
        result = result_of(goal)
        assert "no frame of stamp 12." in result.message
        assert "raise held_frames" in result.message
    finally:
        client.destroy()


def test_the_newest_frame_is_handed_out_for_a_stamp_of_zero(camera):
    client = camera.create_client(GetFrame, "get_frame")
    assert camera.until(client.service_is_ready)

    def calibrated():
        """Whether the frame comes with its camera_info, which best effort may lose."""
        stamp = camera.send()
        assert camera.answer(stamp)
        future = client.call_async(GetFrame.Request())
        assert camera.until(future.done)
        assert future.result().success
        assert nanoseconds(future.result().image.header.stamp) == stamp
        return future.result().camera_info.k[0] > 0

    assert camera.until(calibrated)
    camera.destroy_client(client)


def test_the_server_is_killed_in_mid_goal_and_comes_back(camera, servers):
    running, start_server = servers
    assert camera.set_parameter("keyframes", "all")[0]
    stream_until(camera, lambda: refined(camera))
    camera.target = "refine_server"
    assert camera.set_parameter("steps", 100_000)[0]
    camera.target = "redepth_node"
    assert camera.diagnosis(
        lambda values: int(values["keyframes sent"]) > int(values["keyframes ended"]),
        meanwhile=camera.send, period=0.05,
    )  # fmt: skip
    running[-1].popen.kill()
    assert camera.diagnosis(
        lambda values: "is gone, and with it the keyframe" in values["last error"],
        2 * PATIENCE, meanwhile=camera.send, period=0.05,
    )  # fmt: skip
    assert camera.is_served()
    camera.since = camera._stamp
    start_server()
    stream_until(camera, lambda: refined(camera), 2 * PATIENCE)


def test_deactivated_while_a_keyframe_is_refined(camera):
    camera.set_parameter("keyframes", "all")
    stream_until(camera, lambda: refined(camera))
    for _ in range(5):
        camera.send()
        assert camera.change_state(Transition.TRANSITION_DEACTIVATE)
        assert camera.change_state(Transition.TRANSITION_ACTIVATE)
    camera.received["depth/image"].clear()
    stream_until(camera, lambda: camera.received["depth/image"])
    assert camera.is_served()
