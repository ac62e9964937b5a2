"""The launch file, where launch_ros is installed (it is not on PyPI)."""

from pathlib import Path

import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: source a ROS 2 to test the launch file"
)

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

FOLDER = Path(__file__).parents[2] / "launch"


def nodes_of(file="redepth.launch.py", **arguments):
    """The executables that a launch file starts with some arguments."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    pending = list(PythonLaunchDescriptionSource(str(FOLDER / file)).get_launch_description(context).entities)
    nodes = []
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            nodes.append(entity.node_executable)
        else:
            pending = list(entity.visit(context) or []) + pending
    return nodes


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["redepth_node", "refine_server"]),
        ({"refine": "elsewhere"}, ["redepth_node"]),
        ({"refine": "together"}, ["redepth_together"]),
        ({"fast": "false"}, ["refine_server"]),
        (
            {"player": "photographs", "rviz": "true"},
            ["rviz2", "redepth_node", "refine_server", "camera_player"],
        ),
    ],
)
def test_what_is_started(arguments, expected):
    assert nodes_of(**arguments) == expected


def test_an_unknown_place_for_the_server_is_an_error():
    with pytest.raises(ValueError, match="refine is 'there'; it must be process, together or elsewhere"):
        nodes_of(refine="there")


def test_a_missing_params_file_is_an_error():
    with pytest.raises(FileNotFoundError, match="/no/such/file"):
        nodes_of(params_file="/no/such/file")


def test_nothing_to_start_is_an_error():
    with pytest.raises(ValueError, match="there is nothing to start"):
        nodes_of(fast="false", refine="elsewhere")


@pytest.mark.parametrize(
    ("stack", "executable"),
    [
        ("rtabmap", "rtabmap"),
        ("nvblox", "nvblox_node"),
        ("depth_image_proc", "point_cloud_xyzrgb_node"),
        ("octomap", "octomap_server_node"),
    ],
)
@pytest.mark.parametrize("source", ["fast", "refined"])
def test_a_stack_is_started_beside_our_nodes(stack, source, executable):
    found = nodes_of("mapping.launch.py", stack=stack, source=source, refine="together", anchors="depth")
    assert found == [executable, "redepth_together"]


@pytest.mark.parametrize(("name", "value"), [("stack", "slam"), ("source", "slow")])
def test_an_unknown_stack_or_source_is_an_error(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; it must be one of"):
        nodes_of("mapping.launch.py", **{name: value})
