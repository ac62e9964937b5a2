"""Warnings about topics without messages."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from fakes import FakeClock

from redepth_ros.ros.streams import silence_watch
from redepth_ros.ros.streams.silence_watch import SilenceWatch

IMAGES = SimpleNamespace(topic="/image", missing_messages=lambda: "it has no publisher")


def test_silence_is_a_warning_after_some_seconds_and_again_after_a_while(monkeypatch):
    clock, warnings = FakeClock(), []
    monkeypatch.setattr(silence_watch.time, "monotonic", clock)
    watch = SilenceWatch(warnings.append)

    def after(seconds):
        """Return the warnings of some seconds, with a check in each."""
        warnings.clear()
        for _ in range(seconds):
            clock.advance(1.0)
            watch.check(IMAGES)
        return len(warnings)

    assert after(4) == 0
    assert after(1) == 1
    assert warnings == ["no message on /image for 5 s; it has no publisher"]
    assert after(29) == 0
    assert after(1) == 1
    watch.reset()
    assert (after(4), after(1)) == (0, 1)
