"""How a process ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["undisturbed"]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Deaf to interrupts, from here to the end of the process.

    ros2 launch and a terminal may both send one, and a hasty person several: the second
    would break off the cleaning up that the first began.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rclpy put its handler back meanwhile
