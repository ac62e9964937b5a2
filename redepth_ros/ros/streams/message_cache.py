"""Stamps, and messages that are found again by theirs."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Generic, TypeVar

__all__ = ["Stamped", "nanoseconds"]

MessageT = TypeVar("MessageT", bound=Any)


def nanoseconds(stamp: Any) -> int:
    """A builtin_interfaces/Time as one number."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


class Stamped(Generic[MessageT]):
    """The last messages with a header of one topic, found again by stamp; safe between threads."""

    def __init__(self, keep: int) -> None:
        self._messages: deque[MessageT] = deque(maxlen=keep)
        self._arrived = threading.Condition()

    def add(self, message: MessageT) -> None:
        """File one that has just come."""
        with self._arrived:
            self._messages.append(message)
            self._arrived.notify_all()

    def wait_for_nearest(self, stamp: Any, tolerance: float, patience: float = 0.0) -> MessageT | None:
        """The one nearest to a stamp, unless it is farther than the tolerance (seconds).

        Where there is none yet it is waited for, `patience` seconds long, if the newest one is
        of the second before: a sensor that sends none is not waited for.
        """
        wanted = nanoseconds(stamp)

        def distance(message: MessageT) -> int:
            return abs(nanoseconds(message.header.stamp) - wanted)

        def find() -> MessageT | None:
            nearest = min(self._messages, key=distance, default=None)
            return nearest if nearest is not None and distance(nearest) <= tolerance * 1e9 else None

        with self._arrived:
            found = find()
            if found is None and self._messages and distance(self._messages[-1]) < 1_000_000_000:
                found = self._arrived.wait_for(find, patience)
            return found
