"""Complaints are counted always, and each kind is logged once in a period."""

import types

import pytest

pytest.importorskip("rclpy")

from redepth_ros.ros import complaints
from redepth_ros.ros.node.throttled_log import Complaints


class Log:
    """A logger that keeps what it is told."""

    def __init__(self):
        self.warnings, self.errors = [], []
        self.warning, self.error = self.warnings.append, self.errors.append


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set; only the module's own sees it."""
    now = types.SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(complaints, "time", types.SimpleNamespace(monotonic=lambda: now.seconds))
    return now


@pytest.fixture
def log():
    return Log()


def test_one_kind_is_logged_once_in_a_period_and_says_how_many_were_not(clock, log):
    heard = Complaints(log, period=5.0)
    for seconds in (100.0, 100.0, 102.0, 104.9):
        clock.seconds = seconds
        heard.add("too dark")
    assert log.warnings == ["too dark"]
    clock.seconds = 105.0
    heard.add("too dark")
    assert log.warnings == ["too dark", "too dark (and 3 more like it since)"]
    clock.seconds = 110.0
    heard.add("too dark")
    assert log.warnings[2:] == ["too dark"]
    assert heard.total == 6


def test_messages_that_differ_in_their_numbers_only_are_of_one_kind(clock, log):
    heard = Complaints(log)
    heard.add("stamp went back from 1.5 to 0.5 s")
    heard.add("stamp went back from 20.25 to 3 s")
    heard.add("stamp of zero")
    assert log.warnings == ["stamp went back from 1.5 to 0.5 s", "stamp of zero"]
    assert heard.last == "stamp of zero"


def test_what_is_not_logged_is_the_last_one_all_the_same(clock, log):
    heard = Complaints(log)
    heard.add("stamp 1")
    clock.seconds = 101.0
    heard.add("stamp 2")
    assert log.warnings == ["stamp 1"]
    assert (heard.last, heard.last_at, heard.total) == ("stamp 2", 101.0, 2)


def test_errors_are_logged_as_errors(clock, log):
    Complaints(log).add("out of memory", error=True)
    assert (log.warnings, log.errors) == ([], ["out of memory"])


def test_the_oldest_kinds_are_forgotten(clock, log):
    heard = Complaints(log, most=2)
    for kind in "abca":
        heard.add(kind)
    assert log.warnings == ["a", "b", "c", "a"]
