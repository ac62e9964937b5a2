"""How a process ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Ending", "undisturbed"]


class Ending:
    """Whether this process was told to end, by SIGINT or SIGTERM.

    rclpy's own handlers shut the context down at once, after which nobody can be told any more what
    became of their goals. To be used with SignalHandlerOptions.NO.
    """

    def __init__(self) -> None:
        self.told = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """The first is noted; the second does not wait for a callback that takes its time."""
        if self.told:
            raise KeyboardInterrupt
        self.told = True


@contextmanager
def undisturbed() -> Iterator[None]:
    """Deaf to interrupts, from here to the end of the process.

    ros2 launch and a terminal may both send one, and a hasty person several: the second
    would break off the cleaning up that the first began.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rclpy put its handler back meanwhile
