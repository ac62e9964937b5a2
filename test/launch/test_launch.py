"""The launch file, where launch_ros is installed (it is not on PyPI)."""

from pathlib import Path

import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: source a ROS 2 to test the launch file"
)

from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import Node

FILE = Path(__file__).parents[2] / "launch" / "redepth.launch.py"


def nodes_of(**arguments):
    """The executables that the file starts with some arguments."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    pending = list(PythonLaunchDescriptionSource(str(FILE)).get_launch_description(context).entities)
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
