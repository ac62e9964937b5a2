"""Faults of stamps, in nanoseconds."""

import pytest

from redepth_ros.ros.streams.stamp_check import StampCheck


@pytest.fixture
def stamps():
    check = StampCheck()
    assert check.check(5_000_000_000) is None
    return check


def test_increasing_stamps_are_valid(stamps):
    assert stamps.check(5_000_000_001) is None
    assert stamps.check(9_000_000_000) is None


def test_a_stamp_of_zero_is_a_fault_and_is_not_remembered(stamps):
    fault = stamps.check(0)
    assert "stamp of zero" in fault.message
    assert not fault.restarted
    assert stamps.check(5_000_000_001) is None


def test_a_duplicate_stamp_is_a_fault(stamps):
    fault = stamps.check(5_000_000_000)
    assert "duplicate stamp 5.000 s" in fault.message
    assert not fault.restarted
    assert stamps.check(5_000_000_001) is None


def test_a_backward_jump_is_a_fault_once_and_is_then_followed(stamps):
    fault = stamps.check(2_000_000_000)
    assert "went back from 5.000 to 2.000 s" in fault.message
    assert fault.restarted
    assert stamps.check(2_000_000_001) is None
    assert "duplicate" in stamps.check(2_000_000_001).message


def test_reset_accepts_any_stamp(stamps):
    stamps.reset()
    assert stamps.check(1) is None
