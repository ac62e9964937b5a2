"""The refine server with a fake engine, and its clients, in this process."""

import threading
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("rclpy")

import rclpy
from action_msgs.msg import GoalStatus
from builtin_interfaces.msg import Duration
from fakes import CAMERA, FakeEngine, FakeRefineServer, Graph, depth_array, header_at, image_at
from lifecycle_msgs.msg import Transition
from rclpy.action import ActionClient
from rclpy.impl.implementation_singleton import rclpy_implementation
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import Image

from redepth_ros.nodes import refine_server
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.node.qos import GOALS

Goal, Result = RefineDepth.Goal, RefineDepth.Result
SUCCEEDED, ABORTED, CANCELED = (
    GoalStatus.STATUS_SUCCEEDED,
    GoalStatus.STATUS_ABORTED,
    GoalStatus.STATUS_CANCELED,
)


class Setup:
    """An active server and a client."""

    def __init__(self, set_parameters):
        self.server = FakeRefineServer()
        self.server.engine = FakeEngine()
        self.node = rclpy.create_node("client")
        self.graph = Graph(self.server, self.node)
        self.client = ActionClient(
            self.node, RefineDepth, "refine", goal_service_qos_profile=GOALS, result_service_qos_profile=GOALS
        )
        self.graph.listen(self.node, Image, "refined/depth")
        self.feedback, self.seconds = [], 1000.0
        self.set = lambda **values: set_parameters(self.server, **values)
        self.set(steps=3, ensemble_size=1)
        self.server.trigger_configure()
        self.server.trigger_activate()
        assert self.graph.until(self.client.server_is_ready)

    def close(self):
        self.client.destroy()
        self.graph.close()

    def goal(self, **fields):
        self.seconds += 0.1
        goal = RefineDepth.Goal(image=image_at(self.seconds), **fields)
        goal.camera_info = camera_to_msg(CAMERA, goal.image.header)
        return goal

    def long_goal(self):
        """Return a goal that ends only when told."""
        self.server.engine.step_time = 0.002
        return self.goal(steps=100_000)

    def send(self, goal=None):
        """Send a goal and return its handle."""
        self.feedback = feedback = []
        return self.graph.result_of(
            self.client.send_goal_async(
                goal or self.goal(), feedback_callback=lambda m: feedback.append(m.feedback)
            )
        )

    def send_running(self):
        """Send a long goal and wait until it is at work."""
        handle = self.send(self.long_goal())
        assert self.graph.until(lambda: self.feedback)
        return handle

    def end(self, handle):
        """Return status and result of a goal."""
        response = self.graph.result_of(handle.get_result_async())
        return response.status, response.result

    def cancel(self, handle):
        return bool(self.graph.result_of(handle.cancel_goal_async()).goals_canceling)

    def warning(self):
        return self.server.log.last


@pytest.fixture
def setup(ros, set_parameters):
    setup = Setup(set_parameters)
    yield setup
    setup.close()


def test_a_goal_is_refined_published_and_returned(setup):
    assert setup.graph.until(lambda: setup.node.count_publishers("refined/depth"))
    status, result = setup.end(setup.send())
    assert (status, result.outcome) == (SUCCEEDED, Result.OUTCOME_REFINED)
    message = setup.graph.until(lambda: setup.graph.received["refined/depth"])[0]
    assert message == result.depth
    assert setup.server.settled


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "slow"}, "preset is 'slow'"),
        ({"ensemble_size": 9999}, "ensemble_size is 9999; it must be from 1 to 100"),
        ({"scale": -1.0}, "scale is -1.0"),
        ({"max_age": Duration(sec=-1)}, "max_age is -1 s"),
        ({"images": 7}, "images is 7; it must be one of 0, 1, 2"),
    ],
)
def test_an_invalid_goal_ends_with_the_reason_and_leaves_the_goal_at_work_alone(setup, fields, words):
    running = setup.send_running()
    status, result = setup.end(setup.send(setup.goal(**fields)))
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_FAILED)
    assert result.message.startswith(words)
    assert setup.warning() == f"goal failed: {result.message}"
    assert setup.server._scheduler.busy
    assert setup.cancel(running)
    assert setup.end(running)[0] == CANCELED


def test_a_goal_whose_image_can_not_be_decoded_leaves_the_goal_at_work_alone(setup):
    running = setup.send_running()
    goal = setup.goal()
    goal.image.encoding = "h264"
    status, result = setup.end(setup.send(goal))
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_FAILED)
    assert "'h264'" in result.message
    assert setup.server._scheduler.busy
    assert setup.cancel(running)
    assert setup.end(running)[0] == CANCELED
    assert setup.server._pipeline.counts["failed"] == 1


def test_feedback_and_result_have_no_images_if_the_goal_leaves_them_out(setup):
    setup.set(preview_period=0.001)
    setup.server.engine.step_time = 0.02
    for images, included in ((Goal.IMAGES_OMIT, False), (Goal.IMAGES_AUTO, True)):
        _, result = setup.end(setup.send(setup.goal(steps=20, images=images)))
        for name in ("depth", "stddev", "fast_depth"):
            image = getattr(result, name)
            assert bool(image.data) == included
            assert image.header.stamp == result.camera_info.header.stamp
        assert any(feedback.depth.data for feedback in setup.feedback) == included


def test_a_goal_that_can_not_be_refined_is_aborted_with_the_reason(setup):
    goal = setup.goal()
    goal.image.encoding = "h264"
    status, result = setup.end(setup.send(goal))
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_FAILED)
    assert "'h264'" in result.message
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_an_inactive_server_rejects_goals(setup):
    setup.server.trigger_deactivate()
    assert not setup.send().accepted
    assert "goal rejected: the server is not active" in setup.warning()
    setup.server.trigger_activate()
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_a_cancelled_goal_returns_its_best_so_far(setup):
    handle = setup.send_running()
    assert setup.cancel(handle)
    status, result = setup.end(handle)
    assert (status, result.outcome) == (CANCELED, Result.OUTCOME_STOPPED_EARLY)
    assert "(cancelled)" in result.message
    assert depth_array(result.depth).any()


def test_a_goal_that_has_ended_can_not_be_cancelled(setup):
    handle = setup.send()
    assert setup.end(handle)[0] == SUCCEEDED
    assert not setup.cancel(handle)


def test_a_newer_goal_displaces_the_one_at_work(setup):
    old = setup.send_running()
    setup.server.engine.step_time = 0.0
    new = setup.send()
    status, result = setup.end(old)
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_STOPPED_EARLY)
    assert "(a newer goal took its place)" in result.message
    assert setup.end(new)[0] == SUCCEEDED


def test_queued_goals_are_refined_in_their_order(setup):
    setup.set(policy="queue", queue_size=2)
    running = setup.send_running()
    waiting = [setup.send() for _ in range(2)]
    assert not setup.send().accepted
    assert "2 goals wait already, and queue_size is 2" in setup.warning()
    setup.server.engine.step_time = 0.0
    setup.cancel(running)
    assert [setup.end(handle)[0] for handle in (running, *waiting)] == [CANCELED, SUCCEEDED, SUCCEEDED]


def test_a_waiting_goal_is_cancelled_before_it_began(setup):
    setup.set(policy="queue")
    running, waiting = setup.send_running(), setup.send()
    assert setup.cancel(waiting)
    status, result = setup.end(waiting)
    assert (status, result.outcome) == (CANCELED, Result.OUTCOME_FAILED)
    assert result.message == "cancelled before this goal began"
    setup.cancel(running)
    assert setup.end(running)[0] == CANCELED


def test_reject_refuses_a_goal_while_another_one_is_at_work(setup):
    setup.set(policy="reject")
    running = setup.send_running()
    assert not setup.send().accepted
    assert "policy is reject" in setup.warning()
    setup.cancel(running)
    assert setup.end(running)[0] == CANCELED


def test_deactivating_ends_every_goal(setup):
    setup.set(policy="queue")
    running, waiting = setup.send_running(), setup.send()
    setup.server.trigger_deactivate()
    status, result = setup.end(running)
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_STOPPED_EARLY)
    assert "(the server was deactivated)" in result.message
    status, result = setup.end(waiting)
    assert (status, result.message) == (ABORTED, "the server was deactivated before this goal began")
    assert setup.server.settled


@pytest.mark.parametrize("policy", ["latest", "queue", "reject"])
def test_every_goal_of_a_burst_ends(setup, policy):
    setup.set(policy=policy)
    setup.server.engine.step_time = 0.001
    futures = [setup.client.send_goal_async(setup.goal()) for _ in range(40)]
    handles = [setup.graph.result_of(future) for future in futures]
    ends = [setup.end(handle)[0] for handle in handles if handle.accepted]
    assert ends.count(SUCCEEDED) >= 1
    assert set(ends) <= {SUCCEEDED, ABORTED}
    if policy == "latest":
        assert len(ends) == 40
        assert ends[-1] == SUCCEEDED
    else:
        assert set(ends) == {SUCCEEDED}
        assert len(ends) < 40
    assert setup.server.settled


def test_deactivating_in_mid_goal_again_and_again_leaks_no_threads(setup):
    counts = []
    for _ in range(20):
        handle = setup.send_running()
        setup.server.trigger_deactivate()
        assert setup.end(handle)[0] == ABORTED
        setup.server.trigger_cleanup()
        setup.server.trigger_configure()
        setup.server.trigger_activate()
        counts.append(threading.active_count())
    assert counts[-1] <= counts[0]
    setup.server.engine.step_time = 0.0
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_a_client_that_vanishes_does_not_block_the_next_one(setup):
    other = ActionClient(setup.node, RefineDepth, "refine")
    assert setup.graph.until(other.server_is_ready)
    setup.graph.result_of(other.send_goal_async(setup.long_goal()))
    other.destroy()
    setup.server.engine.step_time = 0.0
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_a_goal_by_stamp_is_fetched_from_the_node(setup):
    def respond(request, response):
        response.success, response.image = True, image_at(request.stamp.sec)
        return response

    setup.node.create_service(GetFrame, "get_frame", respond)
    status, result = setup.end(setup.send(RefineDepth.Goal(stamp=header_at(42.0).stamp)))
    assert status == SUCCEEDED
    assert result.depth.header.stamp.sec == 42
    assert not result.depth.data
    goal = RefineDepth.Goal(stamp=header_at(43.0).stamp, images=Goal.IMAGES_INCLUDE)
    assert setup.end(setup.send(goal))[1].depth.data


def test_diagnostics_report_the_goals(setup):
    setup.end(setup.send())
    health = setup.server._goals_health()
    assert health.message == "waiting for goals"
    values = dict(health.values)
    threads = values.pop("threads")
    assert threads >= 2
    assert values == {
        "refined": 1,
        "stopped early": 0,
        "kept fast": 0,
        "failed": 0,
        "too old": 0,
        "not in order": 0,
        "goals waiting": 0,
        "last outcome": "refined after 3 of 3 steps",
        "prior": setup.server.settings.prior,
    }
    handle = setup.send_running()
    assert setup.server._goals_health().message == "at work"
    setup.cancel(handle)
    setup.end(handle)


def test_close_in_mid_goal_ends_all_goals(setup):
    setup.set(policy="queue")
    handle, waiting = setup.send_running(), setup.send()
    setup.server.close()
    status, result = setup.end(handle)
    assert (status, result.outcome) == (ABORTED, Result.OUTCOME_STOPPED_EARLY)
    assert setup.end(waiting)[0] == ABORTED
    assert setup.server.settled
    assert setup.server.networks is None


def test_goals_are_rejected_from_the_begin_of_a_deactivation_to_the_next_activation(setup):
    running = setup.send_running()
    setup.graph.executor.create_task(setup.server._change_state, Transition.TRANSITION_DEACTIVATE)
    setup.server.engine.step_time = 0.0
    handles = [setup.send()]
    assert setup.graph.until(lambda: setup.server._state_machine.current_state[1] == "inactive")
    for change in ("cleanup", "configure"):
        handles.append(setup.send())
        getattr(setup.server, f"trigger_{change}")()
    handles.append(setup.send())
    assert not any(handle.accepted for handle in handles)
    assert setup.end(running)[0] == ABORTED
    setup.server.trigger_activate()
    assert setup.end(setup.send())[0] == SUCCEEDED


@pytest.mark.parametrize(
    ("policy", "ends"), [("latest", (ABORTED, ABORTED)), ("reject", (CANCELED, SUCCEEDED))]
)
def test_goals_that_wait_end_after_a_change_of_the_policy(setup, policy, ends):
    setup.set(policy="queue")
    running, waiting = setup.send_running(), setup.send()
    setup.set(policy=policy)
    setup.server.engine.step_time = 0.0
    newest = setup.send()
    if policy == "reject":
        assert not newest.accepted
        assert setup.cancel(running)
    else:
        assert setup.end(newest)[0] == SUCCEEDED
    assert tuple(setup.end(handle)[0] for handle in (running, waiting)) == ends
    assert setup.server.settled


def test_a_goal_whose_client_can_not_be_told_that_it_is_accepted_ends(setup, monkeypatch):
    """rclpy forgets it then: it would be accepted for ever."""

    def fail(*arguments):
        raise rclpy_implementation.RCLError("client will not receive response")

    waiting = setup.client.send_goal_async(setup.goal())
    with monkeypatch.context() as patch:
        patch.setattr(rclpy_implementation.ActionServer, "send_goal_response", fail)
        assert setup.graph.until(lambda: setup.server._server._goal_handles)
        (handle,) = setup.server._server._goal_handles.values()
        assert handle.status == GoalStatus.STATUS_ACCEPTED
    setup.server.tick()
    assert setup.graph.until(lambda: handle.status == ABORTED)
    assert not waiting.done()
    assert setup.server._pipeline.last_message == "its client could not be told that it is accepted"
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_a_goal_that_waits_is_left_alone_by_the_tick(setup):
    setup.set(policy="queue")
    running, waiting = setup.send_running(), setup.send()
    setup.server.tick()
    setup.server.engine.step_time = 0.0
    assert setup.cancel(running)
    assert [setup.end(handle)[0] for handle in (running, waiting)] == [CANCELED, SUCCEEDED]


def test_an_unexpected_error_of_a_goal_that_is_read_ends_that_goal_only(setup, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("width")

    with monkeypatch.context() as patch:
        patch.setattr(refine_server.RefineRequest, "from_goal", fail)
        status, result = setup.end(setup.send())
    assert (status, result.message) == (ABORTED, "ZeroDivisionError: width")
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_an_unexpected_error_of_the_pipeline_ends_that_goal_only(setup, monkeypatch):
    def fail(*arguments):
        raise ZeroDivisionError("time")

    with monkeypatch.context() as patch:
        patch.setattr(setup.server._pipeline, "refine", fail)
        assert setup.end(setup.send())[0] == ABORTED
    assert setup.server.settled
    assert setup.end(setup.send())[0] == SUCCEEDED


def test_errors_that_do_not_go_away_lead_through_the_error_state(setup):
    setup.server.engine.error = RuntimeError("CUDA error: device-side assert triggered")
    for _ in range(3):
        assert setup.end(setup.send())[0] == ABORTED
    assert setup.graph.until(lambda: setup.server._state_machine.current_state[1] == "unconfigured")
    assert setup.server.failure.startswith("3 unexpected errors in a row, the last one: RuntimeError: CUDA")
    assert setup.server.settled


def test_goals_that_wait_end_when_errors_do_not_go_away(setup):
    setup.set(policy="queue")
    handles = [setup.send_running()]
    setup.server.engine.error = RuntimeError("CUDA error: device-side assert triggered")
    handles += [setup.send() for _ in range(5)]
    assert setup.cancel(handles[0])
    assert [setup.end(handle)[0] for handle in handles] == [CANCELED] + 5 * [ABORTED]
    assert setup.server.settled


@pytest.mark.parametrize(("device", "warned"), [("cpu", True), ("cuda", False)])
def test_a_prior_that_needs_a_gpu_on_a_cpu_is_a_warning(setup, device, warned):
    setup.server.engine.prior.needs_gpu = True
    setup.server.engine.model.device = torch.device(device)
    setup.server.trigger_deactivate()
    setup.server.trigger_cleanup()
    assert not setup.warning()
    setup.server.trigger_configure()
    assert ("is too large for a CPU" in setup.warning()) == warned


def test_a_prior_that_is_to_be_compiled_is_warmed_up_while_it_is_loaded(setup, monkeypatch):
    calls = []

    def load(*names, prior_runtime, **options):
        def warm_up(settings, input_size):
            calls.append((prior_runtime, settings.steps, input_size))

        return SimpleNamespace(prior=SimpleNamespace(light_conditioned=True), warm_up=warm_up)

    monkeypatch.setattr(refine_server.Engine, "load", load)
    for runtime in ("torch", "compile"):
        settings = ServerSettings(prior_runtime=runtime, steps=7, input_size=56)
        refine_server.RefineServer.load(setup.server, settings)
    assert calls == [("compile", 7, 56)]


def test_a_budget_beyond_max_age_is_a_warning_at_start_and_after_a_change(setup):
    assert not setup.warning()
    setup.set(max_age=8.0)
    assert setup.warning().startswith("time_budget is 60 s and max_age 8 s")
    total = setup.server.log.total
    setup.set(time_budget=6.0)
    setup.set(steps=4)
    assert setup.server.log.total == total
    setup.set(time_budget=9.0)
    assert setup.server.log.total == total + 1
    setup.set(steps=5)
    assert setup.server.log.total == total + 1
    for change in ("deactivate", "cleanup", "configure"):
        getattr(setup.server, f"trigger_{change}")()
    assert setup.warning().startswith("time_budget is 9 s and max_age 8 s")
    assert setup.server.log.total == total + 2
