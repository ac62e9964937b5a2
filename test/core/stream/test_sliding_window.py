"""Rates and percentiles over a window."""

import math

import pytest

from redepth_ros.core import meters
from redepth_ros.core.stream.sliding_window import Meter


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(meters.time, "monotonic", lambda: now[0])
    return now


def test_rate_and_percentiles_of_the_window_only(clock):
    meter = Meter(window=2.0)
    for count in range(41):  # ten a second, for four seconds
        clock[0] = 100.0 + 0.1 * count
        meter.add(float(count))
    assert meter.rate() == pytest.approx(10.0)
    assert meter.percentile(50) == pytest.approx(30.0)
    assert meter.percentile(100) == 40.0
    assert meter.total == 41


def test_an_empty_window(clock):
    meter = Meter(window=1.0)
    assert meter.rate() == 0.0
    assert math.isnan(meter.percentile(50))
    meter.add(1.0)
    assert meter.rate() == 0.0
    clock[0] += 5.0
    assert math.isnan(meter.percentile(50))


def test_memory_is_bounded():
    meter = Meter(window=1e9, most=10)
    for _ in range(100):
        meter.add()
    assert len(meter._recent()) == 10
