"""A mailbox with one slot: a newer letter takes the place of one not yet collected."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

Letter = TypeVar("Letter")


class Mailbox(Generic[Letter]):
    """Hands the newest item from one thread to another; nothing queues up."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._letter: Letter | None = None
        self._closed = False

    def put(self, letter: Letter) -> bool:
        """Leave an item; whether it took the place of one that nobody had collected."""
        with self._condition:
            overwritten = self._letter is not None
            self._letter = letter
            self._condition.notify()
        return overwritten

    def take(self) -> Letter | None:
        """Wait for an item and collect it; None once the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._letter is not None or self._closed)
            letter, self._letter = self._letter, None
            return None if self._closed else letter

    def close(self) -> None:
        """Wake whoever waits; an item still inside is dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
