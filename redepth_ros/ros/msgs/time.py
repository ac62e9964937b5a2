"""Stamps and durations: builtin_interfaces to and from numbers."""

from __future__ import annotations

from builtin_interfaces.msg import Duration, Time

__all__ = ["duration_from_seconds", "nanoseconds", "seconds_from_duration", "time_from_nanoseconds"]

MAX_SECONDS = 2**31 - 1
"""Largest number of seconds of a Duration or a Time."""


def nanoseconds(stamp: Time) -> int:
    """Return a stamp in nanoseconds."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def time_from_nanoseconds(value: int) -> Time:
    """Make a stamp from nanoseconds."""
    seconds, remainder = divmod(value, 1_000_000_000)
    return Time(sec=seconds, nanosec=remainder)


def seconds_from_duration(duration: Duration) -> float:
    """Return a duration in seconds."""
    return float(duration.sec + duration.nanosec * 1e-9)


def duration_from_seconds(seconds: float) -> Duration:
    """Make a duration from seconds, clipped to [0, 2^31 - 1]."""
    value = round(min(max(0.0, seconds), MAX_SECONDS) * 1e9)
    return Duration(sec=value // 10**9, nanosec=value % 10**9)
