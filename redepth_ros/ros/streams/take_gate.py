"""Limits how often an executor takes messages of a subscription."""

from __future__ import annotations

from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

__all__ = ["TakeGate"]

PERIOD = 0.01
"""Seconds."""


class TakeGate(ReentrantCallbackGroup):
    """Callback group of one subscription, from which at most `burst` messages are taken in each period.

    Taking an image of 1 MB and throwing it away costs the interpreter lock for about half a millisecond: a
    camera of some kHz would leave little time for the network. While the gate is closed the executor does
    not wait for the subscription, and the middleware replaces old messages by new ones without Python.
    """

    def __init__(self, node: Node, burst: int) -> None:
        """Args:
        node: owner of the subscription.
        burst: number of messages per period.
        """
        super().__init__()
        self._node, self._burst, self._left = node, burst, burst
        self._timer = node.create_timer(PERIOD, self._open, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()

    def can_execute(self, entity: Any) -> bool:
        """Return whether the executor may take a message; called by rclpy."""
        return self._left > 0 and bool(super().can_execute(entity))

    def took(self) -> None:
        """Count a message; the subscription's callback calls this."""
        self._left -= 1
        if self._timer.is_canceled():
            self._timer.reset()

    def destroy(self) -> None:
        """Destroy the timer."""
        self._node.destroy_timer(self._timer)

    def _open(self) -> None:
        self._timer.cancel()
        self._left = self._burst
