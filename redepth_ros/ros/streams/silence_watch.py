"""Reports that a subscription receives nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

from redepth_ros.ros.streams.subscription import NewestSubscription

__all__ = ["SilenceWatch"]

SILENCE = 5.0
"""Seconds without a message until the first warning: the graph needs some to be discovered."""
REPEAT = 30.0
"""Seconds between two warnings about one silence."""


class SilenceWatch:
    """Warns while a subscription receives nothing, with what the ROS graph knows about the publishers."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        """Args:
        warn: called with the message.
        """
        self._warn = warn
        self.reset()

    def reset(self) -> None:
        """Begin to wait for a message: at the start, and whenever one has arrived."""
        self._last_at = time.monotonic()
        self._warned_at = float("-inf")

    def check(self, subscription: NewestSubscription) -> None:
        """Warn if nothing arrived for some time; call it about once a second."""
        now = time.monotonic()
        silence = now - self._last_at
        if silence >= SILENCE and now - self._warned_at >= REPEAT:
            self._warned_at = now
            self._warn(
                f"no message on {subscription.topic} for {silence:.0f} s; {subscription.missing_messages()}"
            )
