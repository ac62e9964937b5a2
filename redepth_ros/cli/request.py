"""`redepth request`: refine one frame of a running system."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import rclpy
import rclpy.signals
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.exceptions import InvalidNamespaceException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth
from rich.console import Console
from rich.progress import Progress, TaskID

from redepth_ros.cli.progress import progress_bar, step_note
from redepth_ros.core.errors import RedepthError
from redepth_ros.core.refine.result import Outcome
from redepth_ros.ros.msgs.refine_depth import FINAL_STATES
from redepth_ros.ros.msgs.time import duration_from_seconds, seconds_from_duration
from redepth_ros.ros.node.signals import ShutdownSignal

__all__ = ["request_refinement"]

RESULT_TIMEOUT = 5.0
"""Seconds within which the result arrives once the goal has ended, or its server is gone."""


def request_refinement(
    namespace: str,
    *,
    preset: str = "",
    steps: int = 0,
    ensemble_size: int = 0,
    prompt: str = "",
    time_budget: float = 0.0,
    timeout: float = 10.0,
) -> bool:
    """Request the newest frame, show the progress and print the result.

    Ctrl-C cancels the goal; the server publishes its best result so far. A second Ctrl-C ends the
    command.

    Args:
        namespace: of the nodes.
        preset, steps, ensemble_size, prompt, time_budget: as in the action's goal; 0 or empty takes
            the server's values.
        timeout: seconds to wait for the server.

    Returns:
        Whether there is a depth.

    Raises:
        RedepthError: the namespace is invalid, there is no server, or it rejected the goal.
    """
    goal = RefineDepth.Goal(
        preset=preset,
        steps=steps,
        ensemble_size=ensemble_size,
        prompt=prompt,
        time_budget=duration_from_seconds(time_budget),
    )
    console = Console()
    with _client(namespace) as requester, progress_bar(console) as progress:
        task = progress.add_task("refine", total=1.0, note="sent")
        response = requester.request(goal, timeout, progress, task)
    result = response.result
    console.print(f"{result.message} ({seconds_from_duration(result.elapsed):.1f} s)")
    if result.outcome in list(Outcome):
        stamp = result.depth.header.stamp
        console.print(f"stamp {stamp.sec}.{stamp.nanosec:09d}, published on {requester.topic}")
    return response.status != GoalStatus.STATUS_ABORTED and result.outcome in list(Outcome)


class _Requester:
    """Sends one goal, and cancels it on Ctrl-C."""

    def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
        self._executor = executor
        self.client = ActionClient(node, RefineDepth, "refine")
        self._name = node.resolve_service_name("refine")
        self.topic = node.resolve_topic_name("refined/depth")

    def request(self, goal: RefineDepth.Goal, timeout: float, progress: Progress, task: TaskID) -> Any:
        """Send a goal and wait for its result, a GetResult response."""
        self._spin(self.client.server_is_ready, timeout)
        if not self.client.server_is_ready():
            raise RedepthError(
                f"no action server {self._name} within {timeout:g} s: start refine_server, or name its "
                "namespace by --namespace"
            )

        def show(message: RefineDepth.Impl.FeedbackMessage) -> None:
            now = message.feedback
            elapsed = seconds_from_duration(now.elapsed)
            total = elapsed + seconds_from_duration(now.remaining)
            note = step_note(now.member, now.member, now.ensemble_size, now.step, now.steps, now.loss)
            progress.update(task, completed=elapsed / max(total, 1e-9), note=note)

        # From here on Ctrl-C has to end the goal, too; only an accepted goal can be cancelled.
        shutdown = ShutdownSignal()
        accepting = self.client.send_goal_async(goal, feedback_callback=show)
        self._spin(accepting.done, timeout)
        handle = accepting.result() if accepting.done() else None
        if handle is None or not handle.accepted:
            response = "rejected the goal" if handle else "did not respond"
            raise RedepthError(
                f"{self._name} {response}: the server must be active, and idle if its policy is reject; "
                "its log and /diagnostics give the reason"
            )
        ending, patience = handle.get_result_async(), RESULT_TIMEOUT
        # DDS may lose the result, and the server may be gone.
        self._spin(
            lambda: (
                shutdown.received
                or ending.done()
                or handle.status in FINAL_STATES
                or not self.client.server_is_ready()
            )
        )
        if shutdown.received and not ending.done():
            progress.update(task, note="cancelling")
            handle.cancel_goal_async()
            patience = timeout
        self._spin(ending.done, patience)  # the status of a goal arrives before its result
        if not ending.done():
            raise RedepthError(
                f"{self._name} sent no result: is it still running? The log of refine_server gives the reason"
            )
        return ending.result()

    def _spin(self, done: Callable[[], bool], timeout: float = math.inf) -> None:
        """Spin until a condition holds or the time is up, in rounds short enough for Ctrl-C."""
        end = time.monotonic() + timeout
        while not done() and time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.1)


@contextmanager
def _client(namespace: str) -> Iterator[_Requester]:
    """Provide a client on a node of its own."""
    # rclpy's handlers would shut the context down on Ctrl-C, before the goal is cancelled.
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    try:
        node = Node("redepth_request", namespace=namespace)
    except InvalidNamespaceException:
        rclpy.try_shutdown()
        raise RedepthError(
            f"--namespace is {namespace!r}; it must consist of letters, digits and '_', separated by '/'; "
            "no part may begin with a digit"
        ) from None
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    requester = _Requester(node, executor)
    try:
        yield requester
    finally:
        requester.client.destroy()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
