"""`redepth request`: have one frame of a running system refined."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy
import rclpy.signals
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from redepth_ros.core.errors import RedepthError
from redepth_ros.core.refine.result import Outcome
from redepth_ros.ros.node.signals import Ending
from redepth_ros.ros.msgs.refine_depth import duration_message, seconds_of

__all__ = ["request_refinement"]


def _spin(executor: SingleThreadedExecutor, done: Callable[[], bool], seconds: float) -> None:
    """Spin until something is done or the time is up, in rounds short enough for Ctrl-C."""
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        executor.spin_once(timeout_sec=0.1)


def request_refinement(
    namespace: str, *, preset: str, steps: int, members: int, prompt: str, time_budget: float, patience: float
) -> bool:
    """Ask for the newest frame, show how far it is, and print what came of it.

    Ctrl-C cancels the goal; its best so far is published by the server. A second one ends the command.

    Args:
        namespace: of the nodes.
        preset, steps, members, prompt, time_budget: as in the action's goal; zero or empty is the
            server's.
        patience: seconds to wait for the server.

    Returns:
        Whether there is a depth.

    Raises:
        RedepthError: no server, or it rejected the goal.
    """
    console = Console()
    # Interrupts are for the goal, not for ROS: a cancel needs a context that still works.
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    node = Node("redepth_request", namespace=namespace)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    client = ActionClient(node, RefineDepth, "refine")
    name = node.resolve_service_name("refine")
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())

    try:
        _spin(executor, client.server_is_ready, patience)
        if not client.server_is_ready():
            raise RedepthError(f"no action server {name} within {patience:g} s: start refine_server")
        goal = RefineDepth.Goal(
            preset=preset, steps=steps, ensemble_size=members, prompt=prompt,
            time_budget=duration_message(time_budget),
        )  # fmt: skip
        with Progress(*columns, console=console) as progress:
            task = progress.add_task("sent", total=1.0)

            def show(message: RefineDepth.Impl.FeedbackMessage) -> None:
                now = message.feedback
                total = seconds_of(now.elapsed) + seconds_of(now.remaining)
                progress.update(
                    task, completed=seconds_of(now.elapsed) / max(total, 1e-9),
                    description=f"member {now.member} of {now.members}, step {now.step}/{now.steps}, "
                    f"loss {now.loss:.4g}",
                )  # fmt: skip

            # From here on there is a goal that has to end, too: one can be cancelled once it was judged.
            ending = Ending()
            judged = client.send_goal_async(goal, feedback_callback=show)
            _spin(executor, judged.done, patience)
            handle = judged.result() if judged.done() else None
            if handle is None or not handle.accepted:
                raise RedepthError(
                    f"{name} {'rejected the goal' if handle else 'did not answer'}: is it active, and idle "
                    "or with another policy than reject? See its log and /diagnostics"
                )
            answer = handle.get_result_async()
            _spin(executor, lambda: ending.told or answer.done(), float("inf"))
            if not answer.done():
                progress.update(task, description="cancelling")
                handle.cancel_goal_async()
                _spin(executor, answer.done, patience)
            if not answer.done():
                raise RedepthError(f"{name} gave no result: is it still running?")
        response = answer.result()
        result = response.result
        console.print(f"{result.message} ({seconds_of(result.elapsed):.1f} s)")
        stamp = result.depth.header.stamp
        if result.depth.data:
            topic = node.resolve_topic_name("refined/depth")
            console.print(f"stamp {stamp.sec}.{stamp.nanosec:09d}, on {topic} if it is in order")
        return response.status != GoalStatus.STATUS_ABORTED and result.outcome in list(Outcome)
    finally:
        client.destroy()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
