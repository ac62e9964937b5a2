"""Statistics of the stream, as diagnostics show them."""

import time

import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from fakes import FakeClock

from redepth_ros.nodes.stream_statistics import StreamStatistics


@pytest.fixture
def clock(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_health_reports_rates_latencies_and_counts(clock):
    statistics = StreamStatistics()
    for number in range(11):
        statistics.received.add()
        if number % 2 == 0:
            statistics.model_time.add(0.01)
            statistics.published.add()
            statistics.latency.add(0.02 if number else 0.5)
        clock.advance(0.1)
    statistics.overwritten = 5
    health = statistics.health("/image")
    assert health.level == DiagnosticStatus.OK
    assert health.values == {
        "rate in (Hz)": "10.00",
        "rate out (Hz)": "5.00",
        "latency median (ms)": "20.00",
        "latency 95th percentile (ms)": "380.00",
        "model time median (ms)": "10.00",
        "frames in": 11,
        "frames out": 6,
        "frames overwritten": 5,
        "frames without a prompt": 0,
    }


def test_health_warns_without_images(clock):
    statistics = StreamStatistics()
    assert statistics.health("/front/image").message == "no images on /front/image"
    for _ in range(2):
        statistics.received.add()
        clock.advance(0.1)
    assert statistics.health("/front/image").level == DiagnosticStatus.OK
    clock.advance(10.0)
    health = statistics.health("/front/image")
    assert (health.level, health.values["frames in"]) == (DiagnosticStatus.WARN, 2)
