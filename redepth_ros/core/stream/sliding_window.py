"""Meters over a sliding window of time: rates and latencies."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

__all__ = ["Meter"]


class Meter:
    """Events of the last seconds, each with a value, for example a latency.

    Safe to use from several threads. Memory is bounded by `most` events.
    """

    def __init__(self, window: float = 5.0, most: int = 10_000) -> None:
        self._window = window
        self._events: deque[tuple[float, float]] = deque(maxlen=most)
        self._lock = threading.Lock()
        self.total = 0
        """Events since the beginning."""

    def add(self, value: float = 0.0) -> None:
        """Count an event now."""
        with self._lock:
            self._events.append((time.monotonic(), value))
            self.total += 1

    def rate(self) -> float:
        """Events a second over the window; 0 with fewer than two."""
        times = [at for at, _ in self._recent()]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def percentile(self, percent: float) -> float:
        """A percentile of the values in the window; NaN when it is empty."""
        values = [value for _, value in self._recent()]
        return float(np.percentile(values, percent)) if values else float("nan")

    def _recent(self) -> list[tuple[float, float]]:
        oldest = time.monotonic() - self._window
        with self._lock:
            while self._events and self._events[0][0] < oldest:
                self._events.popleft()
            return list(self._events)
