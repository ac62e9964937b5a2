"""Ctrl-C while an executable imports its modules."""

import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from redepth_ros import entry_points

PATIENCE = 60.0

MODULE = """
import signal
seen = [signal.getsignal(signal.SIGINT)]
def main():
    seen.append(signal.getsignal(signal.SIGINT))
"""


@pytest.fixture
def handler():
    """Set the handler of SIGINT; the former one is restored."""
    former = signal.getsignal(signal.SIGINT)
    yield lambda new: signal.signal(signal.SIGINT, new)
    signal.signal(signal.SIGINT, former)


def imports(process, library):
    """Return once a process has loaded a library; its other imports then take more time."""
    end = time.monotonic() + PATIENCE
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="there is no /proc")
@pytest.mark.parametrize(
    ("name", "library"),
    [
        *((name, "_multiarray_umath") for name in entry_points.__all__),
        ("redepth_node", "libtorch_cpu"),
        ("redepth", "libtorch_cpu"),
    ],
)
def test_ctrl_c_during_the_imports_ends_an_executable_without_a_traceback(name, library):
    if name != "redepth" and find_spec("rclpy") is None:
        pytest.skip("there is no rclpy")
    program = f"from redepth_ros.entry_points import {name}; {name}()"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A background job of a shell ignores SIGINT, and its children would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        imports(process, library)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == -signal.SIGINT  # 130 in a shell


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [(signal.default_int_handler, signal.SIG_DFL), (signal.SIG_IGN, signal.SIG_IGN)],
)
def test_the_handler_of_sigint_is_back_when_main_runs(handler, tmp_path, monkeypatch, before, meanwhile):
    (tmp_path / "imported_by_entry_points.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "imported_by_entry_points", raising=False)
    handler(before)
    entry_points._run("imported_by_entry_points")
    assert sys.modules["imported_by_entry_points"].seen == [meanwhile, before]


def test_the_module_imports_nothing_heavy():
    program = "import sys, redepth_ros.entry_points; print({'numpy', 'torch', 'rclpy'} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
