"""refine_server as a process with the embedded networks: what the README promises."""

import re

import numpy as np
import pytest

pytest.importorskip("rclpy")

from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from graph import CAMERA, depth_array
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import nanoseconds, seconds_from_duration

Result = RefineDepth.Result
TOPICS = ("image", "depth", "stddev", "normals", "compared")


def test_a_goal_is_refined_and_published_under_its_own_stamp(client):
    client.listen(Image, *[f"refined/{name}" for name in TOPICS])
    client.listen(CameraInfo, "refined/camera_info")
    topics = [*[f"refined/{name}" for name in TOPICS], "refined/camera_info"]

    def refine():
        goal = client.goal(steps=6, ensemble_size=2)
        done.append((goal, *client.refine_one(goal)))

    def published():
        """Some topics are published only once the server sees that they have subscribers."""
        stamp = nanoseconds(done[-1][0].image.header.stamp)
        return client.until(lambda: all(client.at_stamp(topic, stamp) for topic in topics), 1.0)

    done: list = []
    assert client.until(published, meanwhile=refine)
    goal, status, result = done[-1]
    assert (status, result.outcome) == (GoalStatus.STATUS_SUCCEEDED, Result.OUTCOME_REFINED)
    assert result.steps == 6
    assert "changed by" in result.message
    header = goal.image.header
    messages = {topic: client.at_stamp(topic, nanoseconds(header.stamp)) for topic in topics}
    assert all(message.header == header for message in messages.values())
    depth = depth_array(messages["refined/depth"])
    np.testing.assert_array_equal(depth, depth_array(result.depth))
    assert depth.shape == (CAMERA.height, CAMERA.width)
    assert np.isfinite(depth).all()
    assert not np.array_equal(depth, depth_array(result.fast_depth))
    assert depth_array(result.stddev).max() > 0
    assert seconds_from_duration(result.elapsed) > 0


def test_a_seed_gives_one_result(client):
    results = [client.refine_one(client.goal(seed=5))[1] for _ in range(2)]
    np.testing.assert_array_equal(*[depth_array(result.depth) for result in results])


def test_a_goals_scale_is_that_of_its_depths(client):
    _, plain = client.refine_one(client.goal())
    _, metric = client.refine_one(client.goal(scale=6.0, shift=0.4, scale_covariance=[0.01, 0.0, 0.0]))
    disparity = 1.0 / depth_array(plain.fast_depth)
    np.testing.assert_allclose(depth_array(metric.fast_depth), 6.0 / (disparity + 0.4), rtol=1e-4)
    relative = depth_array(metric.stddev) / depth_array(metric.depth)
    # The scale's standard deviation and the assumed one, without an ensemble.
    np.testing.assert_allclose(relative, np.hypot(0.1, 0.1), rtol=0.01)


def test_a_goals_anchors_give_metres(client):
    _, plain = client.refine_one(client.goal())
    truth = 6.0 / (1.0 / depth_array(plain.fast_depth) + 0.4)
    truth[:, 64:] *= 1.2
    sparse = np.full_like(truth, np.nan)
    sparse[::6, ::6] = truth[::6, ::6]
    goal = client.goal(steps=30)
    goal.anchors = image_to_msg(sparse, "32FC1", goal.image.header)
    status, result = client.refine_one(goal)
    assert status == GoalStatus.STATUS_SUCCEEDED, result.message
    depths = (depth_array(message) for message in (result.fast_depth, result.depth))
    fast, refined = (np.abs(depth / truth - 1.0).mean() for depth in depths)
    assert refined <= fast < 0.05  # both are fused with the anchors


def test_feedback_reports_progress_and_a_time_budget_ends_the_goal(client):
    assert client.set_parameters(preview_period=0.05)[0]
    handle = client.send_goal(client.goal(steps=100_000))
    # Before the result is requested: rclpy drops feedback after that.
    assert client.until(lambda: any(feedback.depth.data for feedback in client.feedback))
    cancel = handle.cancel_goal_async()
    assert client.until(cancel.done)
    client.result_of(handle)
    assert client.set_parameters(preview_period=1.0)[0]
    steps = [feedback.step for feedback in client.feedback]
    assert steps == sorted(steps)
    assert all((f.ensemble_size, f.member) == (1, 1) for f in client.feedback)
    assert all(f.step <= f.steps <= 100_000 for f in client.feedback)  # fewer fit into the server's 60 s
    assert np.isfinite([feedback.loss for feedback in client.feedback]).all()
    budget = Duration(nanosec=500_000_000)
    status, result = client.refine_one(client.goal(steps=100_000, time_budget=budget))
    assert (status, result.steps < 100_000) == (GoalStatus.STATUS_SUCCEEDED, True)
    assert result.outcome in (Result.OUTCOME_REFINED, Result.OUTCOME_KEPT_FAST), result.message
    assert re.search("(for a budget|the time budget) of 0.5 s", result.message)


def test_invalid_goals_are_aborted_with_a_reason(client):
    status, result = client.refine_one(client.goal(ensemble_size=9999))
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, Result.OUTCOME_FAILED)
    assert result.message == "ensemble_size is 9999; it must be from 1 to 100"
    client.diagnostics(message=f"goal failed: {result.message}")
    goal = client.goal()
    goal.image.encoding = "h264"
    status, result = client.refine_one(goal)
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, Result.OUTCOME_FAILED)
    assert "'h264'" in result.message


def test_a_goal_at_work_is_displaced_cancelled_and_deactivated(client):
    """The real optimisation stops for each reason, and the goal gets its best result so far."""
    first = client.send_goal(client.goal(steps=100_000))
    assert client.until(lambda: client.feedback)
    second = client.send_goal(client.goal(steps=100_000))
    status, result = client.result_of(first)
    assert (status, result.outcome) == (GoalStatus.STATUS_ABORTED, Result.OUTCOME_STOPPED_EARLY)
    assert "a newer goal took its place" in result.message
    count = len(client.feedback)
    assert client.until(lambda: len(client.feedback) > count)
    cancel = second.cancel_goal_async()
    assert client.until(cancel.done)
    status, result = client.result_of(second)
    assert (status, result.outcome) == (GoalStatus.STATUS_CANCELED, Result.OUTCOME_STOPPED_EARLY)
    assert "cancelled" in result.message
    assert np.isfinite(depth_array(result.depth)).all()
    third = client.send_goal(client.goal(steps=100_000))
    client.feedback.clear()
    assert client.until(lambda: client.feedback)
    assert client.change_state("deactivate")
    status, result = client.result_of(third)
    assert status == GoalStatus.STATUS_ABORTED
    assert "deactivated" in result.message
    assert not client.send_goal().accepted
    assert client.change_state("activate")
    assert client.refine_one()[0] == GoalStatus.STATUS_SUCCEEDED


def test_memory_stays_level_when_it_is_deactivated_in_mid_goal(client):
    def cycle():
        handle = client.send_goal(client.goal(steps=100_000))
        client.spin(0.05)
        assert client.change_state("deactivate")
        assert client.result_of(handle)[0] == GoalStatus.STATUS_ABORTED
        assert client.change_state("cleanup", "configure", "activate")

    for _ in range(3):
        cycle()
    before = client.diagnostics()[2]
    for _ in range(12):
        cycle()

    def is_level(values):
        threads, memory = (int(values[name]) for name in ("threads", "memory (MiB)"))
        return threads <= int(before["threads"]) and memory < 1.2 * int(before["memory (MiB)"])

    client.diagnostics(is_level)
    assert client.refine_one()[0] == GoalStatus.STATUS_SUCCEEDED
