"""The part of a lifecycle transition that another thread does."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import rclpy.task
from rclpy.executors import Executor
from rclpy.impl.implementation_singleton import rclpy_implementation

__all__ = ["SlowPart"]

InvalidHandle = rclpy_implementation.InvalidHandle

Begin = Callable[[], "Future[Any] | None"]
"""Begins work in another thread; returns None if there is none."""


class SlowPart:
    """Work of the transition that is under way, if it has a slow part."""

    def __init__(self) -> None:
        self._work: Future[Any] | None = None

    def begin(self, begin: Begin) -> None:
        """Begin the work; `finish` raises an error of this as it raises those of the work."""
        try:
            self._work = begin()
        except Exception as error:  # reported as one of any other part of the transition
            self._work = Future()
            self._work.set_exception(error)

    async def wait(self, executor: Executor | None) -> None:
        """Wait until the work is done, as a coroutine of an executor."""
        if self._work is None:
            return
        done = rclpy.task.Future(executor=executor)
        # A future without callbacks does not wake the executor when it is set.
        done.add_done_callback(lambda _: None)

        def wake(_: Future[Any]) -> None:
            with suppress(InvalidHandle):  # the executor was shut down meanwhile
                done.set_result(None)

        self._work.add_done_callback(wake)
        await done

    def finish(self, begin: Begin) -> None:
        """Block until the work is done, which begins here unless it has begun; raise its error."""
        if self._work is None:
            self.begin(begin)
        work, self._work = self._work, None
        if work is not None:
            work.result()

    def forget(self) -> None:
        """Leave the work to its thread."""
        self._work = None
