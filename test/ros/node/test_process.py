"""Memory of this process."""

import pytest

from redepth_ros.ros.node import process
from redepth_ros.ros.node.process import resident_bytes


def test_resident_bytes_is_the_memory_that_the_system_reports():
    psutil = pytest.importorskip("psutil")
    expected = psutil.Process().memory_info().rss
    assert abs(resident_bytes() - expected) < 0.1 * expected


def test_resident_bytes_is_zero_without_proc(monkeypatch):
    def fail(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(process, "open", fail, raising=False)
    assert resident_bytes() == 0
