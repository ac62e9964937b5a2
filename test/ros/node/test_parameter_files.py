"""Mistakes in parameter files."""

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from redepth_ros.ros.node import lifecycle
from redepth_ros.ros.node.lifecycle import spin
from redepth_ros.ros.node.parameter_files import broken_file, unknown_parameters


def arguments_with(folder, text):
    file = folder / "robot.yaml"
    file.write_text(text)
    return ["--ros-args", "--params-file", str(file)], file


def test_a_file_that_is_not_valid_names_its_line(tmp_path):
    arguments, file = arguments_with(tmp_path, "/**:\n  ros__parameters:\n    model: [tiny\n    scale: 2.0\n")
    problem = broken_file(arguments)
    assert problem.startswith(f"parameter file {file}:4 is not valid YAML")
    with pytest.raises(SystemExit, match="is not valid YAML"):
        spin([], arguments)


def test_a_missing_file_is_named(tmp_path):
    missing = str(tmp_path / "missing.yaml")
    assert broken_file(["--params-file", missing]).startswith(f"can't read the parameter file {missing}")


def test_arguments_without_a_file_are_fine(tmp_path):
    arguments, _ = arguments_with(tmp_path, "/**:\n  ros__parameters:\n    model: tiny\n")
    assert broken_file(arguments) == broken_file([]) == ""


def test_arguments_that_ros_rejects_end_without_a_traceback(monkeypatch):
    def reject(**options):
        raise lifecycle.RCLError("Couldn't parse params file: no ros__parameters")

    monkeypatch.setattr(lifecycle, "ShutdownSignal", lambda: None)
    monkeypatch.setattr(lifecycle.rclpy, "init", reject)
    with pytest.raises(SystemExit, match="arguments for ROS: Couldn't parse params file"):
        spin([], [])


def test_an_unknown_parameter_names_file_line_and_the_nearest_known_one(ros, tmp_path):
    text = "/**:\n  ros__parameters:\n    max_dept: 20.0\n    max_depth: 20.0\n    zzz: 1\n"
    arguments, file = arguments_with(tmp_path, text)
    node = Node(
        "misspelt",
        parameter_overrides=[
            Parameter("max_dept", value=20.0),
            Parameter("max_depth", value=20.0),
            Parameter("zzz", value=1),
            Parameter("use_sim_time", value=False),
        ],
    )
    try:
        node.declare_parameter("max_depth", 100.0)
        assert unknown_parameters(node, arguments) == [
            f"unknown parameter max_dept ({file}:3) is ignored; did you mean max_depth?",
            f"unknown parameter zzz ({file}:5) is ignored; see docs/reference/parameters.md",
        ]
        assert "unknown parameter max_dept is ignored" in unknown_parameters(node, [], ["zzz"])[0]
        assert len(unknown_parameters(node, [], ["zzz"])) == 1
    finally:
        node.destroy_node()


@pytest.mark.parametrize("value", ["!!int ''", "!!bool maybe", "!!timestamp never", "[" * 3000])
def test_a_value_that_does_not_fit_its_tag_is_not_valid(tmp_path, value):
    arguments, file = arguments_with(tmp_path, f"/**: {value}\n")
    assert broken_file(arguments).startswith(f"parameter file {file}")
    assert "is not valid YAML" in broken_file(arguments)
