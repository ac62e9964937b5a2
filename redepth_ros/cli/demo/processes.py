"""Child processes of the demo: the nodes and, if there is a display, rviz2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from redepth_ros.cli.demo.watcher import NAMESPACE
from redepth_ros.core.errors import RedepthError
from redepth_ros.ros.parameter_arguments import parameter_arguments

__all__ = ["NodeProcess", "start_viewer"]


class NodeProcess:
    """A node of this package in a process of its own, which ends with the stack."""

    def __init__(self, stack: ExitStack, name: str, parameters: dict[str, object], log: Path) -> None:
        self._name, self._log = name, log
        stream = stack.enter_context(log.open("wb"))
        command = [
            sys.executable,
            "-m",
            f"redepth_ros.nodes.{name}",
            "--ros-args",
            "-r",
            f"__ns:={NAMESPACE}",
            *parameter_arguments(parameters),
        ]
        self._process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        stack.callback(_end, self._process)

    def check(self) -> None:
        """Raise RedepthError with the end of the log if the process has ended."""
        if self._process.poll() is not None:
            raise RedepthError(f"{self._name} ended:\n{self.log_end()}")

    def log_end(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


def start_viewer(stack: ExitStack) -> subprocess.Popen[bytes] | None:
    """Start rviz2 with this package's view; return None without an rviz2 or a display."""
    if not shutil.which("rviz2") or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    from ament_index_python.packages import get_package_share_directory

    view = Path(get_package_share_directory("redepth_ros"), "config", "redepth.rviz")
    process = subprocess.Popen(["rviz2", "-d", str(view), "--ros-args", "-r", f"__ns:={NAMESPACE}"])
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
