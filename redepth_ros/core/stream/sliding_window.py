"""Statistics over a sliding window of time: rates and latencies."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

__all__ = ["SlidingWindow"]


class SlidingWindow:
    """Events of the last seconds, each with a value such as a latency.

    Thread-safe. Memory is bounded by `capacity` events.
    """

    def __init__(self, seconds: float = 5.0, capacity: int = 10_000) -> None:
        self._seconds = seconds
        self._events: deque[tuple[float, float]] = deque(maxlen=capacity)
        self._lock = threading.Lock()
        self.total = 0
        """Events since construction."""

    def add(self, value: float = 0.0) -> None:
        """Count an event now."""
        with self._lock:
            self._events.append((time.monotonic(), value))
            self.total += 1

    def rate(self) -> float:
        """Return the events per second over the window; 0 for fewer than two."""
        times = [at for at, _ in self._recent()]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def percentile(self, percent: float) -> float:
        """Return a percentile of the values in the window; NaN if it is empty."""
        values = [value for _, value in self._recent()]
        return float(np.percentile(values, percent)) if values else float("nan")

    def _recent(self) -> list[tuple[float, float]]:
        oldest = time.monotonic() - self._seconds
        with self._lock:
            while self._events and self._events[0][0] < oldest:
                self._events.popleft()
            return list(self._events)
