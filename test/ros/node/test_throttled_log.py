"""Each kind of message is written once in a period, and all are counted."""

import types

import pytest

pytest.importorskip("rclpy")

from redepth_ros.ros.node import throttled_log
from redepth_ros.ros.node.throttled_log import ThrottledLog


class Logger:
    """A logger that keeps its messages."""

    def __init__(self):
        self.warnings, self.errors = [], []
        self.warning, self.error = self.warnings.append, self.errors.append


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets; only this module reads it."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(throttled_log, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def logger():
    return Logger()


def test_a_kind_is_written_once_in_a_period_with_the_number_suppressed(clock, logger):
    log = ThrottledLog(logger, period=5.0)
    for seconds in (100.0, 100.0, 102.0, 104.9):
        clock.seconds = seconds
        log.warn("too dark")
    assert logger.warnings == ["too dark"]
    clock.seconds = 105.0
    log.warn("too dark")
    assert logger.warnings == ["too dark", "too dark (and 3 more of this kind since)"]
    clock.seconds = 110.0
    log.warn("too dark")
    assert logger.warnings[2:] == ["too dark"]
    assert log.total == 6


def test_messages_that_differ_only_in_numbers_are_of_one_kind(clock, logger):
    log = ThrottledLog(logger)
    log.warn("stamp went back from 1.5 to 0.5 s")
    log.warn("stamp went back from 20.25 to 3 s")
    log.warn("stamp of zero")
    assert logger.warnings == ["stamp went back from 1.5 to 0.5 s", "stamp of zero"]
    assert log.last == "stamp of zero"


def test_last_is_the_newest_message_even_if_it_is_suppressed(clock, logger):
    log = ThrottledLog(logger)
    assert (log.last, log.last_at, log.total) == ("", float("-inf"), 0)
    log.warn("stamp 1")
    clock.seconds = 101.0
    log.warn("stamp 2")
    assert logger.warnings == ["stamp 1"]
    assert (log.last, log.last_at, log.total) == ("stamp 2", 101.0, 2)


def test_errors_are_written_with_their_severity(clock, logger):
    log = ThrottledLog(logger)
    log.error("out of memory")
    assert (logger.warnings, logger.errors) == ([], ["out of memory"])


def test_oldest_kinds_are_forgotten(clock, logger):
    log = ThrottledLog(logger, max_kinds=2)
    for kind in "abca":
        log.warn(kind)
    assert logger.warnings == ["a", "b", "c", "a"]


def test_rclpy_accepts_both_severities_in_turn():
    import rclpy.logging

    log = ThrottledLog(rclpy.logging.get_logger("throttled"), period=0.0)
    for _ in range(2):
        log.warn("a warning")
        log.error("an error")
    assert log.total == 4
