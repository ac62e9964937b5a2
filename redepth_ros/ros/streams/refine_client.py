"""An ordinary client of the action `refine`, with one goal on its way at most."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth

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
        self._node = node
        self._complain = complain
        self._client = ActionClient(node, RefineDepth, "refine")
        self._name = node.resolve_service_name("refine")
        self._lock = threading.Lock()
        self._goal: object | None = None
        """Stands for the goal that is on its way; answers to an older one are ignored."""
        self._unsent = False
        """Whether its place is reserved only."""
        self._server: set[bytes] = set()
        """Which servers there were when it was sent."""
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

    def reserve(self) -> bool:
        """Take the one place there is, if it is free and the server is there."""
        with self._lock:
            if self._goal is not None or not self._client.server_is_ready():
                return False
            self._goal, self._unsent = object(), True
            return True

    def release_unsent(self) -> None:
        """Give the place back if nothing was sent."""
        with self._lock:
            if self._unsent:
                self._goal, self._unsent = None, False

    def send(self, goal: RefineDepth.Goal) -> None:
        """Send a keyframe, for which a place was reserved; the node's executor does it."""
        servers = self._servers()
        with self._lock:
            mark, self._unsent, self._server = self._goal, False, servers
            self.sent += 1
        assert mark is not None
        assert self._node.executor is not None
        self._node.executor.create_task(self._send, mark, goal)

    def watch(self) -> None:
        """Give up the goal on its way if its server is gone; to be called about once a second."""
        if not self.busy:
            return
        servers = self._servers()
        with self._lock:
            lost = self._goal is not None and not self._unsent and not self._server & servers
            if lost:
                self._goal = None
                self.ended += 1
                self.last = "lost with its server"
        if lost:
            self._complain(
                f"the server of {self._name} is gone, and with it the keyframe it had: the next one goes out "
                "when it is back (is refine_server running?)"
            )

    def _servers(self) -> set[bytes]:
        """The servers that can be seen, by an endpoint of each: another process, another server."""
        publishers = self._node.get_publishers_info_by_topic(f"{self._name}/_action/status")
        return {bytes(one.endpoint_gid) for one in publishers}

    def _send(self, mark: object, goal: RefineDepth.Goal) -> None:
        try:
            judged = self._client.send_goal_async(goal)
        except Exception as error:  # whatever it is, the place must be free again
            self._complain(f"a keyframe could not be sent: {type(error).__name__}: {error}")
            self._end(mark, "not sent")
            return
        judged.add_done_callback(lambda future: self._answered(mark, future))

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
