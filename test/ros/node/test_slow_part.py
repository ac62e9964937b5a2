"""The slow part of a transition; test_lifecycle.py has its coroutine."""

from concurrent.futures import Future

import pytest

pytest.importorskip("rclpy")

from redepth_ros.ros.node.slow_part import SlowPart


def done():
    future = Future()
    future.set_result(None)
    return future


def failed():
    future = Future()
    future.set_exception(KeyError("weights"))
    return future


def raising():
    raise KeyError("weights")


def test_each_transition_begins_its_work_once():
    part, begun = SlowPart(), []

    def begin():
        begun.append(None)
        return done()

    part.begin(begin)
    part.finish(begin)
    assert len(begun) == 1
    part.finish(begin)
    assert len(begun) == 2


@pytest.mark.parametrize("begin", [failed, raising])
def test_an_error_is_raised_by_finish_and_only_once(begin):
    part = SlowPart()
    part.begin(begin)
    with pytest.raises(KeyError, match="weights"):
        part.finish(done)
    part.finish(done)
    part.begin(begin)
    part.forget()
    part.finish(lambda: None)
