"""The script ./dev: its messages where something is missing, and the workspace."""

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
    "ln",
)
"""Commands that ./dev may use."""


@pytest.fixture
def clone(tmp_path):
    """A copy of the files that ./dev reads, without an environment."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for path in (ROOT / "dev", *ROOT.glob("requirements*.txt")):
        shutil.copy(path, folder)
    return folder


def call(clone, *arguments, tools=TOOLS, python=None, **environment):
    """Run ./dev with only some tools on the path."""
    folder = clone / "bin"
    folder.mkdir(exist_ok=True)
    for tool in tools:
        if (found := shutil.which(tool)) and not (folder / tool).exists():
            (folder / tool).symlink_to(found)
    if python:
        (folder / "python3").symlink_to(python)
    variables = {"PATH": str(folder), "HOME": str(clone), **environment}
    command = [clone / "dev", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def real_python():
    """The interpreter outside of the virtual environment."""
    return os.path.realpath(sys.executable)


def test_help_lists_the_commands(clone):
    done = call(clone, "--help")
    assert done.returncode == 0
    for command in ("demo", "test", "bench", "run", "shell", "workspace"):
        assert f"  {command} " in done.stdout


def test_an_unknown_command_is_named(clone):
    done = call(clone, "dmeo")
    assert done.returncode == 1
    assert "no command 'dmeo'" in done.stderr


def test_names_the_packages_that_bring_python(clone):
    done = call(clone, "test")
    assert done.returncode == 1
    assert "no usable Python found" in done.stderr
    assert "apt install python3 python3-venv" in done.stderr


def test_names_the_package_that_brings_a_compiler(clone):
    done = call(clone, "test", python=real_python())
    assert done.returncode == 1
    assert "no C++ compiler (c++) found" in done.stderr
    assert "apt install g++" in done.stderr


def test_names_the_distributions_on_pypi(clone):
    done = call(clone, "test", python=real_python(), ROS="foxy")
    assert done.returncode == 1
    assert "ROS=foxy: PyPI has ROS 2 for 'kilted' and 'jazzy'" in done.stderr


def test_explains_a_missing_network(clone):
    no_index = {  # nothing listens on this port
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    done = call(clone, "test", tools=(*TOOLS, "c++"), python=real_python(), **no_index)
    assert done.returncode == 1
    assert "PyPI can't be reached" in done.stderr
    assert "completed steps are kept" in done.stderr


def test_run_needs_a_command(clone):
    done = call(clone, "run")
    assert done.returncode == 1
    assert "name a command, for example: ./dev run redepth_node" in done.stderr


def test_workspace_links_both_packages(clone, tmp_path):
    (clone / "interfaces" / "redepth_interfaces").mkdir(parents=True)
    workspace = tmp_path / "ws"
    for _ in range(2):  # a second call changes nothing
        done = call(clone, "workspace", workspace)
        assert done.returncode == 0, done.stderr
    links = {path.name: path.resolve() for path in (workspace / "src").iterdir()}
    expected = {"redepth_ros": clone, "redepth_interfaces": clone / "interfaces" / "redepth_interfaces"}
    assert links == {name: path.resolve() for name, path in expected.items()}
    for line in ("rosdep install --from-paths src", "colcon build", "ros2 launch redepth_ros"):
        assert line in done.stdout


def test_workspace_replaces_no_folder(clone, tmp_path):
    (tmp_path / "ws" / "src" / "redepth_ros").mkdir(parents=True)
    done = call(clone, "workspace", tmp_path / "ws")
    assert done.returncode == 1
    assert "src/redepth_ros exists and is no link: move it away" in done.stderr
    assert not (tmp_path / "ws" / "src" / "redepth_ros").is_symlink()


def test_workspace_needs_a_folder(clone):
    done = call(clone, "workspace")
    assert done.returncode == 1
    assert "name a folder, for example: ./dev workspace ~/ws" in done.stderr


def test_pytest_works_where_a_ros_is_sourced(tmp_path):
    """The plugins of launch_testing and launch_ros, which pytest 9 can't load, are not loaded."""
    for name in ("launch_testing", "launch_ros"):
        (tmp_path / f"fake_{name}.py").write_text("raise RuntimeError('this plugin does not fit pytest 9')")
        metadata = tmp_path / f"fake_{name}-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fake_{name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[pytest11]\n{name} = fake_{name}\n")
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(tmp_path / "test_nothing.py"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    for options, status in (([], 0), (["-o", "addopts="], 1)):
        done = subprocess.run(
            [*command, "-c", str(ROOT / "pyproject.toml"), *options],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode != 0) == bool(status), done.stdout + done.stderr
