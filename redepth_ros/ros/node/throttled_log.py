"""Complaints about bad input: said once in a while, counted always."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict

from rclpy.impl.rcutils_logger import RcutilsLogger

__all__ = ["Complaints"]


class Complaints:
    """Logs each kind of complaint at most once in a period.

    Two messages are of one kind when they differ in their numbers only: rclpy's own
    throttling goes by the line of code, and would let one kind of fault hide another.
    """

    def __init__(self, logger: RcutilsLogger, period: float = 5.0, most: int = 100) -> None:
        self._logger = logger
        self._period = period
        self._most = most
        self._said: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.total = 0
        """Complaints since the beginning, said or not."""
        self.last = ""
        """The newest one."""
        self.last_at = float("-inf")
        """When that was, on the monotonic clock."""

    def add(self, message: str, *, error: bool = False) -> None:
        """Count a complaint, and log it unless its kind was logged within the period."""
        kind = re.sub(r"[\d.]+", "#", message)
        now = time.monotonic()
        with self._lock:
            self.total += 1
            self.last, self.last_at = message, now
            said_at, silent = self._said.pop(kind, (float("-inf"), 0))
            due = now - said_at >= self._period
            self._said[kind] = (now, 0) if due else (said_at, silent + 1)
            while len(self._said) > self._most:
                self._said.popitem(last=False)
        if due:
            text = message if not silent else f"{message} (and {silent} more like it since)"
            # One call site each: rclpy refuses a changing severity from one line.
            if error:
                self._logger.error(text)
            else:
                self._logger.warning(text)
