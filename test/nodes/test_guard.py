"""Errors of a frame become log messages."""

import pytest

pytest.importorskip("rclpy")

from redepth_ros.core.errors import ImageError
from redepth_ros.nodes.guard import FailureCount, skip_bad_frames


class Log:
    def __init__(self):
        self.warnings, self.errors = [], []
        self.warn, self.error = self.warnings.append, self.errors.append


def run(error, is_running=True, failures=None):
    log = Log()
    with skip_bad_frames(log, lambda: is_running, failures or FailureCount(9, print)):
        if error is not None:
            raise error
    return log


def test_a_good_frame_logs_nothing():
    log = run(None)
    assert not log.warnings + log.errors


def test_a_known_error_is_a_warning():
    assert run(ImageError("image of 0x0 pixels")).warnings == ["frame skipped: image of 0x0 pixels"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_is_an_error_with_a_remedy(error):
    log = run(error)
    assert "out of memory" in log.errors[0]
    assert "lower input_size" in log.errors[0]
    assert not log.warnings


def test_an_unexpected_error_is_logged_with_its_traceback():
    log = run(ZeroDivisionError("oh"))
    assert "ZeroDivisionError: oh" in log.errors[0]
    assert "test_guard.py" in log.errors[0]


def test_an_unexpected_error_at_shutdown_is_not_logged():
    log = run(ZeroDivisionError("oh"), is_running=False)
    assert not log.warnings + log.errors


def test_interrupts_pass():
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt())


def test_unexpected_errors_in_a_row_are_given_up_once():
    reasons = []
    failures = FailureCount(3, reasons.append)
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be")
    for _ in range(2):
        run(error, failures=failures)
    run(None, failures=failures)
    for _ in range(2):
        run(error, failures=failures)
        run(ImageError("image of 0x0 pixels"), failures=failures)
    assert not reasons
    for _ in range(4):
        run(error, failures=failures)
    assert reasons == [
        "3 unexpected errors in a row, the last one: RuntimeError: CUDA error: an illegal memory access was "
        "encountered; restart the process (the errors of a GPU stay until then)"
    ]
