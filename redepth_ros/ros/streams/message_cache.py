"""The last messages of a topic, found by their stamps."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Generic, TypeVar

from builtin_interfaces.msg import Time

from redepth_ros.ros.msgs.time import nanoseconds

__all__ = ["MessageCache"]

MessageT = TypeVar("MessageT", bound=Any)

LATENESS = 1_000_000_000
"""Nanoseconds: a topic whose newest stamp is farther from the wanted one is not waited for."""


class MessageCache(Generic[MessageT]):
    """Keeps the last messages of one topic; they must have a header. Thread-safe."""

    def __init__(self, size: int) -> None:
        """Args:
        size: number of messages that are kept.
        """
        self._messages: deque[MessageT] = deque(maxlen=size)
        self._added = threading.Condition()

    def add(self, message: MessageT) -> None:
        """Store a message that has just arrived."""
        with self._added:
            self._messages.append(message)
            self._added.notify_all()

    def nearest(self, stamp: Time, tolerance: float, timeout: float = 0.0) -> MessageT | None:
        """Return the message nearest to a stamp.

        Args:
            stamp: the wanted one.
            tolerance: largest distance between the stamps, seconds.
            timeout: seconds to wait for a message if there is none yet. The call does not wait for a
                topic whose newest stamp is 1 s or more away: it has probably stopped.

        Returns:
            None if no stamp is within the tolerance.
        """
        wanted = nanoseconds(stamp)

        def distance(message: MessageT) -> int:
            return abs(nanoseconds(message.header.stamp) - wanted)

        def find() -> MessageT | None:
            nearest = min(self._messages, key=distance, default=None)
            return nearest if nearest is not None and distance(nearest) <= tolerance * 1e9 else None

        with self._added:
            found = find()
            if found is None and timeout and self._messages and distance(self._messages[-1]) < LATENESS:
                found = self._added.wait_for(find, timeout)
            return found
