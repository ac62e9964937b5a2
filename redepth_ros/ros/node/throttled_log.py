"""A log that limits how often each kind of message is written, and counts all of them."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from rclpy.impl.rcutils_logger import RcutilsLogger

__all__ = ["ThrottledLog"]


class ThrottledLog:
    """Write each kind of message at most once in a period.

    Two messages are of the same kind if they differ only in their numbers. rclpy's own
    throttling works by line of code, so that one kind of fault would hide another.

    Args:
        logger: logger that writes the messages.
        period: smallest time between two messages of one kind, seconds.
        max_kinds: kinds that are remembered; the oldest are forgotten first.
    """

    def __init__(self, logger: RcutilsLogger, period: float = 5.0, max_kinds: int = 100) -> None:
        self._logger = logger
        self._period = period
        self._max_kinds = max_kinds
        self._written: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.total = 0
        """Messages so far, written or not."""
        self.last = ""
        """Newest message, written or not; empty before the first."""
        self.last_at = float("-inf")
        """Time of the newest message on the monotonic clock, seconds."""

    # rclpy refuses a severity that changes at one call site: each method has its own.

    def warn(self, text: str) -> None:
        """Count a warning, and write it unless its kind was written within the period."""
        self._add(text, lambda line: self._logger.warning(line))

    def error(self, text: str) -> None:
        """Count an error, and write it unless its kind was written within the period."""
        self._add(text, lambda line: self._logger.error(line))

    def _add(self, text: str, write: Callable[[str], object]) -> None:
        kind = re.sub(r"[\d.]+", "#", text)
        now = time.monotonic()
        with self._lock:
            self.total += 1
            self.last, self.last_at = text, now
            written_at, suppressed = self._written.pop(kind, (float("-inf"), 0))
            due = now - written_at >= self._period
            self._written[kind] = (now, 0) if due else (written_at, suppressed + 1)
            while len(self._written) > self._max_kinds:
                self._written.popitem(last=False)
        if due:
            write(text if not suppressed else f"{text} (and {suppressed} more of this kind since)")
