"""Errors of one frame that must not end the stream."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redepth_ros.core.errors import OutOfMemory, RedepthError
from redepth_ros.core.memory import memory_errors
from redepth_ros.ros.node.throttled_log import ThrottledLog

__all__ = ["FailureCount", "skip_bad_frames"]


class FailureCount:
    """Counts unexpected errors in a row; gives up once there are too many: they will not go away."""

    def __init__(self, limit: int, give_up: Callable[[str], object]) -> None:
        """Args:
        limit: number of errors in a row at which `give_up` is called, once.
        give_up: called with the reason.
        """
        self._limit, self._give_up = limit, give_up
        self._count = 0

    def reset(self) -> None:
        """Start again: something succeeded."""
        self._count = 0

    def add(self, error: Exception) -> None:
        """Count an unexpected error."""
        self._count += 1
        if self._count == self._limit:
            last = f"{type(error).__name__}: " + str(error).strip().split("\n", 1)[0]
            self._give_up(
                f"{self._count} unexpected errors in a row, the last one: {last}; "
                "restart the process (the errors of a GPU stay until then)"
            )


@contextmanager
def skip_bad_frames(
    log: ThrottledLog, is_running: Callable[[], bool], failures: FailureCount
) -> Iterator[None]:
    """Turn every error of the block into a log message: the next frame may be good.

    Args:
        log: receives the messages.
        is_running: whether ROS runs; unexpected errors while it shuts down are not logged.
        failures: counts the unexpected errors.
    """
    try:
        with memory_errors():
            yield
        failures.reset()
    except OutOfMemory as error:
        log.error(f"frame skipped: {error}; lower input_size or choose a smaller model")
    except RedepthError as error:
        log.warn(f"frame skipped: {error}")
    except Exception as error:
        if is_running():
            log.error(f"frame skipped: {traceback.format_exc()}")
            failures.add(error)
