"""Child processes of the demo."""

import re
import time
from contextlib import ExitStack

import pytest

pytest.importorskip("rclpy")

from redepth_ros.cli.demo.processes import NodeProcess, start_viewer
from redepth_ros.core.errors import RedepthError


def check_for(seconds, node):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        node.check()
        time.sleep(0.05)


@pytest.mark.parametrize("path", ["/none", "/none # of: these", "/no 'quotes'", "123"])
def test_a_node_that_ends_is_reported_with_its_log(path, tmp_path):
    with ExitStack() as stack:
        node = NodeProcess(stack, "camera_player", {"path": path}, tmp_path / "log")
        with pytest.raises(RedepthError, match=rf"(?s)camera_player ended:.*{re.escape(repr(path))}"):
            check_for(60.0, node)


def test_a_running_node_ends_with_the_stack(tmp_path):
    with ExitStack() as stack:
        node = NodeProcess(stack, "camera_player", {}, tmp_path / "log")
        node.check()
    with pytest.raises(RedepthError, match="camera_player ended"):
        node.check()


def test_there_is_no_viewer_without_a_display(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as stack:
        assert start_viewer(stack) is None
