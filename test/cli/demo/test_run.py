"""`redepth demo` where it can't start."""

from io import StringIO
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

import rclpy
import rclpy.task
from rich.console import Console

from redepth_ros.cli.demo.run import _watch
from redepth_ros.cli.demo.watcher import Watcher


def test_an_invalid_path_is_named_before_anything_starts(redepth, tmp_path):
    called = redepth("demo", "/no/such/path", "--out", tmp_path / "out")
    assert called.status == 1
    assert "redepth: path is '/no/such/path', which does not exist" in called.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_can_not_be_made_is_named_before_anything_starts(redepth, tmp_path):
    (tmp_path / "file").write_text("")
    called = redepth("demo", "--out", tmp_path / "file" / "out")
    assert called.status == 1
    assert called.err == f"redepth: '{tmp_path}/file/out' can't be written: Not a directory"


@pytest.mark.parametrize("responded", [True, False])
def test_a_node_that_does_not_respond_to_the_request_for_keyframes_is_named(responded):
    rclpy.init()
    watcher, output = Watcher(spacing=0.0), StringIO()
    watcher._parameters = SimpleNamespace(call_async=lambda request: rclpy.task.Future())
    watcher.begin_keyframes()
    watcher.waits_for_keyframes = not responded
    watcher.latencies.add(0.1)
    _watch(watcher, {}, "images", 0.0, None, Console(file=output))
    watcher.destroy_node()
    rclpy.try_shutdown()
    assert ("did not respond to the request for keyframes" in output.getvalue()) != responded
