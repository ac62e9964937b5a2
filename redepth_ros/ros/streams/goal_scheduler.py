"""Scheduling of goals: one at work, the others wait, are rejected or replace one another."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

__all__ = ["POLICIES", "GoalScheduler", "Job"]

GoalT = TypeVar("GoalT", bound=Any)

POLICIES = ("latest", "queue", "reject")
"""What happens to a goal that arrives while another one is at work, see `GoalScheduler`."""

CANCELLED = "cancelled"
DEACTIVATED = "the server was deactivated"
DISPLACED = "a newer goal took its place"


@dataclass(eq=False)
class Job(Generic[GoalT]):
    """An accepted goal."""

    goal: GoalT
    stop_reason: str = ""
    """Why the goal has to end before its work is done; empty while it may go on."""
    stopped: bool = False
    """Whether the work ended because of the stop reason; set by the worker."""
    started_at: float = field(default_factory=time.monotonic)
    """Seconds on the monotonic clock."""
    _on_stop: Callable[[], object] | None = None

    def stop(self, reason: str) -> None:
        """Ask the worker to end; may be called by any thread."""
        self.stop_reason = reason
        if self._on_stop is not None:
            self._on_stop()

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call a function when the job has to stop, or now if it already has to; it may be called twice."""
        self._on_stop = callback
        if self.stop_reason:
            callback()


class GoalScheduler(Generic[GoalT]):
    """Decides which goal is at work. It does no work itself and knows nothing about its goals.

    The policy decides about a goal that arrives while another one is at work:

    - latest: it replaces all others. Those that wait are dismissed, the one at work has to stop.
    - queue: it waits for its turn; it is rejected if `queue_size` goals wait already.
    - reject: it is rejected.

    Thread-safe. The callbacks are called without the lock.
    """

    def __init__(self, start: Callable[[Job[GoalT]], None], dismiss: Callable[[Job[GoalT]], None]) -> None:
        """Args:
        start: begins the work of a job and returns at once; `finish` must follow when the work has ended,
            for which `Job.stop_reason` has to be watched.
        dismiss: ends a job that never started; `Job.stop_reason` says why.
        """
        self._start, self._dismiss = start, dismiss
        self._lock = threading.Lock()
        self._waiting: deque[Job[GoalT]] = deque()
        self._running: Job[GoalT] | None = None
        self._active = False

    @property
    def active(self) -> bool:
        """Whether goals are accepted."""
        return self._active

    @property
    def busy(self) -> bool:
        """Whether a goal is at work."""
        return self._running is not None

    @property
    def waiting(self) -> int:
        """Number of goals that wait."""
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether every goal has ended."""
        with self._lock:
            return self._running is None and not self._waiting

    def has(self, goal: GoalT) -> bool:
        """Return whether a goal is at work or waits."""
        with self._lock:
            jobs = [*self._waiting, *filter(None, [self._running])]
        return any(job.goal == goal for job in jobs)

    def activate(self) -> None:
        """Accept goals from now on."""
        self._active = True

    def deactivate(self) -> None:
        """Accept no more goals; dismiss those that wait and stop the one at work."""
        self._active = False
        with self._lock:
            dismissed = self._clear(DEACTIVATED)
        self._dismiss_all(dismissed)

    def rejection(self, policy: str, queue_size: int) -> str:
        """Return why a goal that arrives now is rejected; empty if it is accepted."""
        if not self._active:
            return "the server is not active; configure and activate it"
        with self._lock:
            busy, waiting = self._running is not None or bool(self._waiting), len(self._waiting)
        if policy == "reject" and busy:
            return "another goal is running, and policy is reject"
        if policy == "queue" and waiting >= queue_size:
            return f"{waiting} goals wait already, and queue_size is {queue_size}"
        return ""

    def add(self, goal: GoalT, policy: str) -> None:
        """Add an accepted goal; it starts at once if no other one is at work."""
        job, dismissed = Job(goal), []
        with self._lock:
            if not self._active:
                job.stop_reason, dismissed = DEACTIVATED, [job]
            else:
                if policy == "latest":
                    dismissed = self._clear(DISPLACED)
                self._waiting.append(job)
        self._dismiss_all(dismissed)
        self._start_next()

    def cancel(self, goal: GoalT) -> bool:
        """Cancel a goal; return False if it has ended, or is about to end for another reason."""
        with self._lock:
            if self._running is not None and self._running.goal == goal:
                self._running.stop(CANCELLED)
                return True
            job = next((job for job in self._waiting if job.goal == goal), None)
            if job is None:
                return False
            self._waiting.remove(job)
            job.stop_reason = CANCELLED
        self._dismiss(job)
        return True

    def finish(self, job: Job[GoalT]) -> None:
        """Record the end of the job at work and start the next one."""
        with self._lock:
            if self._running is job:
                self._running = None
        self._start_next()

    def _clear(self, reason: str) -> list[Job[GoalT]]:
        """Take all waiting jobs out and tell the one at work to stop; with the lock held."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for job in waiting:
            job.stop_reason = reason
        if self._running is not None:
            self._running.stop(reason)
        return waiting

    def _dismiss_all(self, jobs: list[Job[GoalT]]) -> None:
        for job in jobs:
            self._dismiss(job)

    def _start_next(self) -> None:
        with self._lock:
            if self._running is not None or not self._waiting or not self._active:
                return
            job = self._running = self._waiting.popleft()
            job.started_at = time.monotonic()
        self._start(job)
