"""Keyframes of redepth_node, refined by refine_server beside it: what the README promises."""

import re

import numpy as np
import pytest

pytest.importorskip("rclpy")

from graph import SERVER, depth_array
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from redepth_ros.ros.msgs.time import nanoseconds, time_from_nanoseconds


@pytest.fixture
def camera(probe, client):
    """The probe of both nodes; keyframes are off before and after the test."""
    probe.listen(Image, "refined/depth", "refined/image")
    yield probe
    probe.set_parameters(keyframes="none", keyframe_min_interval=1.0)
    probe.diagnostics(lambda values: values["keyframes sent"] == values["keyframes ended"])


def stream_until(camera, condition):
    """Send images at some 20 Hz until a condition is true; return their stamps."""
    stamps = []
    assert camera.until(condition, meanwhile=lambda: stamps.append(camera.send()), period=0.05)
    return stamps


def refined(camera):
    return [nanoseconds(message.header.stamp) for message in camera.received["refined/depth"]]


def test_all_refines_as_many_keyframes_as_the_server_can_and_the_stream_goes_on(camera):
    assert camera.set_parameters(keyframes="all", keyframe_min_interval=0.0)[0]
    sent = stream_until(camera, lambda: len(refined(camera)) >= 3)
    stamps = refined(camera)
    assert set(stamps) <= set(sent)
    assert stamps == sorted(stamps)
    assert camera.depth_of(stamps[0], "refined/image")
    assert len(camera.received["depth/image"]) > len(stamps)
    fast, slow = (
        depth_array(camera.depth_of(stamps[0], topic)) for topic in ("depth/image", "refined/depth")
    )
    assert fast.shape == slow.shape
    assert 0.8 < np.nanmedian(slow / fast) < 1.25
    values = camera.diagnostics(lambda values: "changed by" in values["last keyframe"])[2]
    assert int(values["keyframes sent"]) - int(values["keyframes ended"]) <= 1


def test_refine_now_makes_one_keyframe(camera):
    camera.set_parameters(keyframes="on_request")
    assert camera.until(lambda: camera.call(Trigger, "refine_now", Trigger.Request()).success)
    stream_until(camera, lambda: refined(camera))
    for _ in range(10):
        camera.send()
        camera.spin(0.03)
    assert len(refined(camera)) == 1


def test_a_goal_by_stamp_gets_its_frame_from_the_node(camera, client):
    stamp = camera.send()
    assert camera.depth_of(stamp)
    _, result = client.refine_one(RefineDepth.Goal(stamp=time_from_nanoseconds(stamp)))
    assert result.outcome == RefineDepth.Result.OUTCOME_REFINED, result.message
    assert nanoseconds(result.depth.header.stamp) == stamp
    _, result = client.refine_one(RefineDepth.Goal(stamp=time_from_nanoseconds(12)))
    assert "raise frame_buffer_size" in result.message


def test_a_server_that_is_killed_in_mid_goal_and_restarted_gets_keyframes_again(camera, client, nodes, start):
    assert client.set_parameters(steps=100_000)[0]
    assert camera.set_parameters(keyframes="all", keyframe_min_interval=0.0)[0]
    camera.diagnostics(
        lambda values: int(values["keyframes sent"]) > int(values["keyframes ended"]),
        meanwhile=camera.send,
        period=0.05,
    )
    nodes["refine_server"].popen.kill()
    nodes["refine_server"].wait()
    nodes["refine_server"] = start("refine_server", SERVER)
    camera.diagnostics(
        lambda values: re.search("is gone, and with it the k|did not respond to a k", values["last error"]),
        meanwhile=camera.send,
        period=0.05,
    )
    assert camera.depth_of(camera.send())
    camera.forget()
    stream_until(camera, lambda: refined(camera))
    client.wait_until_active(nodes["refine_server"])
