"""Stamps and durations."""

import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Duration, Time

from redepth_ros.ros.msgs.time import (
    duration_from_seconds,
    nanoseconds,
    seconds_from_duration,
    time_from_nanoseconds,
)


def test_nanoseconds_of_a_stamp():
    assert nanoseconds(Time(sec=3, nanosec=7)) == 3_000_000_007


@pytest.mark.parametrize("value", [0, 1, 999_999_999, 1_000_000_000, 1_795_874_381_129_912_126])
def test_a_stamp_survives_the_way_to_nanoseconds_and_back(value):
    assert nanoseconds(time_from_nanoseconds(value)) == value


def test_seconds_of_a_duration():
    assert seconds_from_duration(Duration(sec=2, nanosec=500_000_000)) == 2.5
    assert seconds_from_duration(Duration(sec=-1)) == -1.0


@pytest.mark.parametrize(
    ("seconds", "expected"), [(2.5, (2, 500_000_000)), (0.0, (0, 0)), (-3.0, (0, 0)), (1e20, (2**31 - 1, 0))]
)
def test_a_duration_is_clipped_to_its_range(seconds, expected):
    duration = duration_from_seconds(seconds)
    assert (duration.sec, duration.nanosec) == expected
