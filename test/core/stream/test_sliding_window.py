"""Rates and percentiles over a sliding window."""

import math

import pytest

from redepth_ros.core.stream import sliding_window
from redepth_ros.core.stream.sliding_window import SlidingWindow


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(sliding_window.time, "monotonic", lambda: now[0])
    return now


def test_rate_and_percentiles_are_those_of_the_window_only(clock):
    window = SlidingWindow(seconds=2.0)
    for count in range(41):  # ten a second, for four seconds
        clock[0] = 100.0 + 0.1 * count
        window.add(float(count))
    assert window.rate() == pytest.approx(10.0)
    assert window.percentile(50) == pytest.approx(30.0)
    assert window.percentile(0) == pytest.approx(20.0, abs=1.0)
    assert window.percentile(100) == 40.0
    assert window.total == 41


def test_an_empty_window_has_no_rate_and_no_percentiles(clock):
    window = SlidingWindow(seconds=1.0)
    assert window.rate() == 0.0
    assert math.isnan(window.percentile(50))
    window.add(1.0)
    assert window.rate() == 0.0
    assert window.percentile(50) == 1.0
    clock[0] += 5.0
    assert math.isnan(window.percentile(50))


def test_memory_is_bounded_by_the_capacity(clock):
    window = SlidingWindow(seconds=1e9, capacity=10)
    for count in range(100):
        clock[0] += 1.0
        window.add(float(count))
    assert window.percentile(0) == 90.0
    assert window.total == 100
