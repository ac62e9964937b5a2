"""A mailbox with one slot: a newer item replaces one that was not taken yet."""

from __future__ import annotations

import threading
from typing import Generic, TypeVar

__all__ = ["Mailbox"]

ItemT = TypeVar("ItemT")


class Mailbox(Generic[ItemT]):
    """Passes the newest item from one thread to another; nothing queues up."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: ItemT | None = None
        self._closed = False

    def put(self, item: ItemT) -> bool:
        """Store an item; return whether it replaced one that was not taken."""
        with self._condition:
            overwritten = self._item is not None
            self._item = item
            self._condition.notify()
        return overwritten

    def take(self) -> ItemT | None:
        """Wait for an item and remove it; return None once the mailbox is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Wake all waiting threads; an item that was not taken is dropped."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
