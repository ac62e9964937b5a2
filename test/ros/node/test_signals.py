"""Signals that end a process."""

import os
import signal

import pytest

from redepth_ros.ros.node.signals import ShutdownSignal, ignore_interrupts


@pytest.fixture(autouse=True)
def _restore_handlers():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_is_recorded_and_the_second_interrupts(number):
    shutdown = ShutdownSignal()
    assert not shutdown.received
    os.kill(os.getpid(), number)
    assert shutdown.received
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_interrupts_are_ignored_during_and_after_cleanup():
    with ignore_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # as rclpy's shutdown does
    os.kill(os.getpid(), signal.SIGINT)


def test_interrupts_are_ignored_after_an_error_during_cleanup():
    def fail():
        with ignore_interrupts():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise ValueError("cleanup")

    with pytest.raises(ValueError, match="cleanup"):
        fail()
    os.kill(os.getpid(), signal.SIGINT)
