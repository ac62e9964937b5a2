"""SIGINT and SIGTERM: how a process is asked to end, and how it ends in peace."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ShutdownSignal", "ignore_interrupts", "leave"]


class ShutdownSignal:
    """Record whether this process received SIGINT or SIGTERM.

    rclpy's own handlers shut the context down at once; after that, clients can no longer be
    told how their goals ended. Use this class with `SignalHandlerOptions.NO`. A second signal
    raises KeyboardInterrupt, so that it does not wait for a slow callback.
    """

    def __init__(self) -> None:
        self.received = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._record)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True


@contextmanager
def ignore_interrupts() -> Iterator[None]:
    """Ignore SIGINT from here to the end of the process.

    `ros2 launch` and the terminal may both send one, and an impatient user several: the second
    would interrupt the cleanup that the first one started.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # rclpy restored its handler meanwhile


def leave() -> None:
    """End the process at once: Python would wait for every thread, however long it works."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
