"""An ordinary client of the action `refine`, with one goal on its way at most."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, Image

__all__ = ["RefineClient"]

ENDINGS = {
    GoalStatus.STATUS_SUCCEEDED: "succeeded",
    GoalStatus.STATUS_CANCELED: "cancelled",
    GoalStatus.STATUS_ABORTED: "aborted",
}


class RefineClient:
    """Sends keyframes to the action server and notes what became of them."""

    def __init__(self, node: Node, complain: Callable[[str], None]) -> None:
        """Args:
        node: whose client it is; its executor answers.
        complain: told what went wrong with a goal, or with the server.
        """
        self._complain = complain
        self._client = ActionClient(node, RefineDepth, "refine")
        self._name = node.resolve_service_name("refine")
        self._lock = threading.Lock()
        self._goal: object | None = None
        """Stands for the goal that is on its way; answers to an older one are ignored."""
        self.sent = 0
        """Goals sent since the beginning."""
        self.ended = 0
        """Goals of which the end is known."""
        self.last = "none"
        """What became of the newest that ended."""

    @property
    def ready(self) -> bool:
        """Whether a goal can be sent: the server is there, and none is on its way."""
        with self._lock:
            return self._goal is None and self._client.server_is_ready()

    @property
    def busy(self) -> bool:
        """Whether a goal is on its way."""
        with self._lock:
            return self._goal is not None

    def send(self, image: Image, info: CameraInfo | None) -> None:
        """Send a keyframe."""
        goal = RefineDepth.Goal(image=image)
        if info is not None:
            goal.camera_info = info
        mark = object()
        with self._lock:
            self._goal = mark
            self.sent += 1
        self._client.send_goal_async(goal).add_done_callback(lambda future: self._answered(mark, future))

    def watch(self) -> None:
        """Give up the goal on its way if its server is gone; to be called about once a second."""
        with self._lock:
            lost = self._goal is not None and not self._client.server_is_ready()
            if lost:
                self._goal = None
        if lost:
            self._complain(
                f"the server of {self._name} is gone, and with it the keyframe it had: the next one goes out "
                "when it is back (is refine_server running?)"
            )

    def destroy(self) -> None:
        self._client.destroy()

    def _answered(self, mark: object, future: Any) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            self._end(mark, "rejected by the server")
            return
        handle.get_result_async().add_done_callback(lambda answer: self._finished(mark, answer))

    def _finished(self, mark: object, future: Any) -> None:
        answer = future.result()
        if answer is None:
            self._end(mark, "lost")
            return
        ending = ENDINGS.get(answer.status, f"status {answer.status}")
        message = answer.result.message
        if answer.result.outcome == RefineDepth.Result.OUTCOME_FAILED:
            self._complain(f"a keyframe could not be refined: {message}")
        self._end(mark, f"{ending}: {message}")

    def _end(self, mark: object, what: str) -> None:
        with self._lock:
            if self._goal is not mark:
                return
            self._goal = None
            self.ended += 1
            self.last = what
