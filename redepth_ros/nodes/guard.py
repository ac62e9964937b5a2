"""Errors of one frame that must not end the stream."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from redepth_ros.core.errors import OutOfMemory, RedepthError
from redepth_ros.core.memory import memory_errors
from redepth_ros.ros.node.throttled_log import ThrottledLog

__all__ = ["skip_bad_frames"]


@contextmanager
def skip_bad_frames(log: ThrottledLog, is_running: Callable[[], bool]) -> Iterator[None]:
    """Turn every error of the block into a log message: the next frame may be good.

    Args:
        log: receives the messages.
        is_running: whether ROS runs; unexpected errors while it shuts down are not logged.
    """
    try:
        with memory_errors():
            yield
    except OutOfMemory as error:
        log.error(f"frame skipped: {error}; lower input_size or choose a smaller model")
    except RedepthError as error:
        log.warn(f"frame skipped: {error}")
    except Exception:
        if is_running():
            log.error(f"frame skipped: {traceback.format_exc()}")
