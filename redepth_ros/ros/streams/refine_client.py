"""A client of the action `refine` with at most one goal at a time."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth
from unique_identifier_msgs.msg import UUID

from redepth_ros.ros.msgs.refine_depth import FINAL_STATES

__all__ = ["RefineClient", "Reservation"]

PATIENCE = 10
"""Calls of `watch`, thus about seconds, without a response of the server after which a goal is given up, or
its result requested again. DDS loses calls while a server starts or ends. They are counted, not timed:
while the executor stands still, no response arrives."""


class Reservation:
    """The place of one goal. Only its holder can send a goal with it, or release it."""

    def __init__(self, client: RefineClient) -> None:
        self._client = client
        self.sent = False
        """Whether a goal was sent with it."""
        self.servers: set[bytes] = set()
        """Servers that existed when the goal was sent."""
        self.goal_id = UUID(uuid=list(uuid.uuid4().bytes))
        self.handle: ClientGoalHandle | None = None
        """Of the goal, once it is accepted."""
        self.waited = 0
        """Calls of `RefineClient.watch` since the goal was sent or accepted."""

    def send(self, goal: RefineDepth.Goal) -> None:
        """Send a goal, once; the node's executor does it."""
        self._client._send_with(self, goal)

    def release(self) -> None:
        """Give the place back if no goal was sent with it."""
        self._client._release(self)


class RefineClient:
    """Sends keyframes to the action server and records their results. Thread-safe."""

    def __init__(self, node: Node, warn: Callable[[str], None], lost: Callable[[], None]) -> None:
        """Args:
        node: owner of the client; its executor sends goals and handles responses.
        warn: called with a message when a goal or the server fails.
        lost: called when a reserved keyframe was not sent, was rejected, or was lost with its server.
        """
        self._node, self._warn, self._lost = node, warn, lost
        self._client = ActionClient(node, RefineDepth, "refine")
        self._name = node.resolve_service_name("refine")
        self._lock = threading.Lock()
        self._current: Reservation | None = None
        self.sent = 0
        """Goals sent since construction."""
        self.ended = 0
        """Goals whose end is known."""
        self.last = "none"
        """Result of the last goal that ended, in words."""

    @property
    def ready(self) -> bool:
        """Whether a goal can be sent: the server exists and the place is free."""
        with self._lock:
            return self._current is None and self._client.server_is_ready()

    @property
    def busy(self) -> bool:
        """Whether the place is taken."""
        with self._lock:
            return self._current is not None

    def reserve(self) -> Reservation | None:
        """Reserve the place; None if it is taken or there is no server."""
        with self._lock:
            if self._current is not None or not self._client.server_is_ready():
                return None
            self._current = Reservation(self)
            return self._current

    def watch(self) -> None:
        """Give up the goal if its server is gone or does not respond; call this about once a second."""
        with self._lock:
            current = self._current
        if current is None or not current.sent:
            return
        if not current.servers & self._servers():
            self._lose_with_server(current)
            return
        current.waited += 1
        if current.waited % PATIENCE:
            return
        if current.handle is not None:
            self._request_result(current, current.handle)
        elif self._lose(current, "no response of the server"):
            self._cancel(current)
            self._warn(
                f"the server of {self._name} did not respond to a keyframe within {PATIENCE} s: the next "
                "keyframe is sent (was refine_server started or stopped meanwhile?)"
            )

    def destroy(self) -> None:
        """Destroy the action client."""
        self._client.destroy()

    def _release(self, reservation: Reservation) -> None:
        with self._lock:
            if self._current is not reservation or reservation.sent:
                return
            self._current = None
        self._lost()

    def _send_with(self, reservation: Reservation, goal: RefineDepth.Goal) -> None:
        servers = self._servers()
        with self._lock:
            if self._current is not reservation or reservation.sent:
                raise RuntimeError("a goal can be sent once, with a reservation that was not released")
            reservation.sent, reservation.servers = True, servers
            self.sent += 1
        assert self._node.executor is not None
        self._node.executor.create_task(self._send, reservation, goal)

    def _servers(self) -> set[bytes]:
        """Return an endpoint of each visible server: a restarted server has a new one."""
        publishers = self._node.get_publishers_info_by_topic(f"{self._name}/_action/status")
        return {bytes(publisher.endpoint_gid) for publisher in publishers}

    def _send(self, reservation: Reservation, goal: RefineDepth.Goal) -> None:
        try:
            response = self._client.send_goal_async(goal, goal_uuid=reservation.goal_id)
        except Exception as error:  # whatever it is, the place must be free again
            self._warn(f"a keyframe could not be sent: {type(error).__name__}: {error}")
            self._lose(reservation, "not sent")
            return
        response.add_done_callback(lambda future: self._on_response(reservation, future))

    def _on_response(self, reservation: Reservation, future: Any) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            self._lose(reservation, "rejected by the server")
            return
        with self._lock:
            given_up = self._current is not reservation
        if given_up:
            self._cancel(reservation)
            return
        reservation.handle, reservation.waited = handle, 0
        self._request_result(reservation, handle)

    def _cancel(self, reservation: Reservation) -> None:
        """Cancel a goal that was given up, which the server may have accepted all the same."""
        accepted = RefineDepth.Impl.SendGoalService.Response(accepted=True)
        ClientGoalHandle(self._client, reservation.goal_id, accepted).cancel_goal_async()

    def _request_result(self, reservation: Reservation, handle: ClientGoalHandle) -> None:
        """Request the result of an accepted goal; a server that does not know the goal responds at once."""
        handle.get_result_async().add_done_callback(lambda result: self._on_result(reservation, result))

    def _on_result(self, reservation: Reservation, future: Any) -> None:
        response = future.result()
        if response is None:
            self._lose(reservation, "lost")
            return
        if response.status not in FINAL_STATES:  # from a server that does not know the goal
            self._lose_with_server(reservation)
            return
        message = response.result.message
        ended = self._end(reservation, f"{FINAL_STATES[response.status]}: {message}")
        if ended and response.result.outcome == RefineDepth.Result.OUTCOME_FAILED:
            self._warn(f"a keyframe could not be refined: {message}")

    def _lose_with_server(self, reservation: Reservation) -> None:
        if self._lose(reservation, "lost with its server"):
            self._warn(
                f"the server of {self._name} is gone, and with it the keyframe it had: the next keyframe is "
                "sent when the server is back (is refine_server running?)"
            )

    def _lose(self, reservation: Reservation, text: str) -> bool:
        """Free the place of a goal that was not refined; return whether the reservation still had it."""
        had_it = self._end(reservation, text)
        if had_it:
            self._lost()
        return had_it

    def _end(self, reservation: Reservation, text: str) -> bool:
        """Free the place of a goal that ended; return whether the reservation still had it."""
        with self._lock:
            if self._current is not reservation:
                return False
            self._current = None
            self.ended += 1
            self.last = text
            return True
