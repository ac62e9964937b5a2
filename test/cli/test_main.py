"""The command `redepth`: its version, its errors and what it imports."""

import subprocess
import sys

import pytest

import redepth_ros
from redepth_ros.core.errors import ConfigError

IMAGE = redepth_ros.__path__[0] + "/data/images/1_relief.png"

WITHOUT_ROS = """
import sys
for name in ("rclpy", "cv_bridge", "sensor_msgs", "std_msgs", "builtin_interfaces", "redepth_interfaces"):
    sys.modules[name] = None
from redepth_ros.cli.main import main
main(sys.argv[1:])
"""


def test_version(redepth):
    called = redepth("--version")
    assert called.status == 0
    assert called.out == f"redepth {redepth_ros.__version__}"


def test_help_lists_the_commands(redepth):
    called = redepth("--help")
    for command in ("refine", "evaluate", "benchmark", "demo", "request"):
        assert f" {command} " in called.out


def test_without_a_command_prints_the_usage(redepth):
    called = redepth()
    assert called.status == 2
    assert "usage: redepth" in called.err


def test_an_error_is_one_line(redepth, monkeypatch):
    def fail(options):
        raise ConfigError("model 'x' is not a folder")

    monkeypatch.setattr("redepth_ros.cli.main._refine", fail)
    called = redepth("refine", "image.png")
    assert (called.status, called.err) == (1, "redepth: model 'x' is not a folder")


def test_ctrl_c_exits_with_130(redepth, monkeypatch):
    def interrupt(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("redepth_ros.cli.main._refine", interrupt)
    assert redepth("refine", "image.png").status == 130


def test_ctrl_c_exits_with_130_while_options_are_imported(redepth, monkeypatch):
    def interrupt(commands):
        raise KeyboardInterrupt

    monkeypatch.setattr("redepth_ros.cli.main._add_process", interrupt)
    assert redepth("--version").status == 130


@pytest.mark.parametrize("command", ["demo", "request"])
def test_a_command_that_needs_ros_says_so(command, redepth, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("redepth_ros.cli.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rclpy", None)
    called = redepth(command)
    assert called.status == 1
    assert "redepth: this command needs ROS 2" in called.err


def test_refine_needs_no_ros(tmp_path):
    command = [sys.executable, "-c", WITHOUT_ROS, "refine", IMAGE]
    command += ["--steps", "1", "--ensemble-size", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "1_relief" / "report.json").is_file()


def test_process_needs_no_ros(tmp_path):
    command = [
        sys.executable,
        "-c",
        WITHOUT_ROS,
        "process",
        IMAGE,
        str(tmp_path / "out"),
        "--input-size",
        "70",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "images" / "depth" / "1_relief.png").is_file()


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--stepz=3", "unknown argument '--stepz'; did you mean --steps?"),
        ("--ensemble_size", "unknown argument '--ensemble_size'; did you mean --ensemble-size?"),
        ("--qqq", "unknown argument '--qqq'"),
    ],
)
def test_an_unknown_option_is_named_with_the_most_alike(argument, message, redepth):
    called = redepth("refine", IMAGE, argument)
    assert called.status == 2
    assert called.err.endswith(f"redepth refine: error: {message}\n")


def test_workers_are_at_least_one(redepth):
    assert "'0' is not an integer of at least 1" in redepth("refine", IMAGE, "--workers", 0).err
