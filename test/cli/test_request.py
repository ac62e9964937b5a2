"""`redepth request`, with an action server in a thread of this process."""

import os
import signal
import threading
import time

import pytest

pytest.importorskip("rclpy")

import rclpy
import rclpy.task
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.client import ClientGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import MultiThreadedExecutor
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth

from redepth_ros.cli import request
from redepth_ros.cli.request import request_refinement
from redepth_ros.core.errors import RedepthError

NAMESPACE = "/request_test"
TIMEOUT = 30.0
"""Seconds until a busy machine has found the server."""


class Server:
    """An action server that takes `steps` steps of 20 ms for each goal; its result follows after `delay`."""

    def __init__(self) -> None:
        self.steps, self.delay = 3, 0.0
        self.accept = True
        self.outcome = RefineDepth.Result.OUTCOME_REFINED
        self.goals: list[RefineDepth.Goal] = []
        self.started = threading.Event()
        self._context = rclpy.Context()
        self._context.init()
        self.node = Node("refine_server", namespace=NAMESPACE, context=self._context)
        self._action = ActionServer(
            self.node,
            RefineDepth,
            "refine",
            self._execute,
            callback_group=ReentrantCallbackGroup(),
            goal_callback=lambda goal: GoalResponse.ACCEPT if self.accept else GoalResponse.REJECT,
            cancel_callback=lambda handle: CancelResponse.ACCEPT,
        )
        self._executor = MultiThreadedExecutor(3, context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()

    def _execute(self, handle):
        self.goals.append(handle.request)
        result = RefineDepth.Result(outcome=self.outcome, message="refined by 5 %")
        for step in range(1, self.steps + 1):
            if handle.is_cancel_requested:
                handle.canceled()
                result.outcome = RefineDepth.Result.OUTCOME_STOPPED_EARLY
                result.message = f"stopped early after {step} steps"
                return result
            feedback = RefineDepth.Feedback(member=1, ensemble_size=2, step=step, steps=self.steps, loss=0.5)
            feedback.remaining.sec = 1
            handle.publish_feedback(feedback)
            self.started.set()
            time.sleep(0.02)
        if self.outcome == RefineDepth.Result.OUTCOME_FAILED:
            result.message = "there is no image"
            handle.abort()
        else:
            result.depth.header.stamp.sec = 12
            result.depth.data = [0]
            handle.succeed()
        time.sleep(self.delay)
        return result

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self._action.destroy()
        self.node.destroy_node()
        self._context.shutdown()


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def server(running):
    """The server in its first state; handlers of signals are restored."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    running.steps, running.delay, running.accept = 3, 0.0, True
    running.outcome = RefineDepth.Result.OUTCOME_REFINED
    running.started.clear()
    yield running
    for number, handler in handlers.items():
        signal.signal(number, handler)


def call(redepth, *arguments):
    return redepth("request", "--namespace", NAMESPACE, "--timeout", TIMEOUT, *arguments)


def test_sends_the_goal_and_prints_the_result(server, redepth):
    options = ("--preset", "paper", "--steps", 7, "--ensemble-size", 3, "--prompt", "a room")
    called = call(redepth, *options, "--time-budget", 1.5)
    assert called.status == 0, called.err
    assert "refined by 5 %" in called.out
    assert f"stamp 12.000000000, published on {NAMESPACE}/refined/depth" in called.out
    goal = server.goals[-1]
    assert (goal.preset, goal.steps, goal.ensemble_size, goal.prompt) == ("paper", 7, 3, "a room")
    assert (goal.time_budget.sec, goal.time_budget.nanosec) == (1, 500_000_000)


def test_options_that_are_not_given_are_the_servers(server, redepth):
    assert call(redepth).status == 0
    goal = server.goals[-1]
    assert (goal.preset, goal.steps, goal.ensemble_size, goal.prompt) == ("", 0, 0, "")
    assert goal.time_budget.sec == goal.time_budget.nanosec == 0


def test_shows_the_step(server, redepth):
    assert "member 1 of 2, step 3/3, loss 0.5" in call(redepth).out


def test_ctrl_c_cancels_the_goal(server, redepth):
    def interrupt():
        assert server.started.wait(TIMEOUT)
        time.sleep(0.3)  # until the client has read that its goal is accepted
        os.kill(os.getpid(), signal.SIGINT)

    server.steps = 10_000
    thread = threading.Thread(target=interrupt)
    thread.start()
    called = call(redepth)
    thread.join()
    assert called.status == 0, called.err
    assert "stopped early after" in called.out


def test_a_result_that_follows_long_after_the_final_status_is_waited_for(server, redepth):
    server.delay = 0.5
    called = call(redepth)
    assert called.status == 0, called.err
    assert "refined by 5 %" in called.out


def test_a_result_that_does_not_arrive_is_reported(server, redepth, monkeypatch):
    """DDS may lose it."""
    monkeypatch.setattr(ClientGoalHandle, "get_result_async", lambda handle: rclpy.task.Future())
    monkeypatch.setattr(request, "RESULT_TIMEOUT", 0.2)
    called = call(redepth)
    assert called.status == 1
    assert f"{NAMESPACE}/refine sent no result" in called.err


def test_a_failed_goal_is_a_failure_of_the_command(server, redepth):
    server.outcome = RefineDepth.Result.OUTCOME_FAILED
    called = call(redepth)
    assert called.status == 1
    assert "there is no image" in called.out


def test_a_rejected_goal_is_explained(server, redepth):
    server.accept = False
    called = call(redepth)
    assert called.status == 1
    assert f"{NAMESPACE}/refine rejected the goal: the server must be active" in called.err


def test_values_out_of_range_are_not_sent(server, redepth):
    sent = len(server.goals)
    called = call(redepth, "--ensemble-size", 5000)
    assert called.status == 1
    assert "--ensemble-size is 5000; it must be from 1 to 100" in called.err
    assert len(server.goals) == sent


@pytest.mark.parametrize("namespace", ["cam-1", "/1cam", "a b"])
def test_an_invalid_namespace_is_quoted(namespace):
    with pytest.raises(RedepthError, match=f"--namespace is '{namespace}'; it must consist of letters"):
        request_refinement(namespace)


def test_without_a_server_names_the_action():
    with pytest.raises(
        RedepthError, match=r"no action server /nobody/refine within 0.3 s: start refine_server"
    ):
        request_refinement("/nobody", timeout=0.3)
