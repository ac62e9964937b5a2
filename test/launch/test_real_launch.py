"""Both launch files under the real launch and launch_ros, if they are installed (they are not on PyPI)."""

import itertools
from pathlib import Path

import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: source a ROS 2 to test the launch files"
)

import yaml
from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.utilities import perform_substitutions
from launch_ros.actions import Node

FOLDER = Path(__file__).parents[2] / "launch"


def started(file, **arguments):
    """Return parameters and remappings of each executable that a launch file starts.

    They are read from the command line. Its first word, the path of the executable, is left out,
    because the stacks are not installed.
    """
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    pending = list(PythonLaunchDescriptionSource(str(FOLDER / file)).get_launch_description(context).entities)
    nodes = {}
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            nodes[entity.node_executable] = _command_line(entity, context)
        else:
            pending = list(entity.visit(context) or []) + pending
    return nodes


def _command_line(node, context):
    node._perform_substitutions(context)
    words = [perform_substitutions(context, list(word)) for word in node.cmd[1:] if _is_text(word)]
    options = list(itertools.pairwise(words))
    parameters = {}
    for path in (path for option, path in options if option == "--params-file"):
        for section, values in yaml.safe_load(Path(path).read_text()).items():
            if section.split("/")[-1] in ("**", node.node_executable):
                parameters |= values["ros__parameters"]
    remappings = dict(rule.split(":=") for option, rule in options if option == "-r" and ":=" in rule)
    return parameters, remappings


def _is_text(word):
    """Return whether a word of a command line is known before the process starts."""
    return not any(type(part).__name__ == "LocalSubstitution" for part in word)


def test_redepth_launch_starts_nodes_with_their_parameters():
    nodes = started("redepth.launch.py", image="/camera/image", max_age="4", use_sim_time="1", rviz="yes")
    assert list(nodes) == ["rviz2", "redepth_node", "refine_server"]
    parameters, remappings = nodes["refine_server"]
    assert (parameters["max_age"], parameters["use_sim_time"]) == (4.0, True)
    assert remappings["image"] == "/camera/image"
    assert nodes["redepth_node"][0]["keyframes"] == "motion"  # of the params_file


def test_redepth_launch_composes_both_nodes():
    assert list(started("redepth.launch.py", refine_server="composed")) == ["redepth_composed"]


def test_invalid_arguments_are_errors():
    with pytest.raises(ValueError, match="depth_node is 'perhaps'; it must be true or false"):
        started("redepth.launch.py", depth_node="perhaps")


@pytest.mark.parametrize(("text", "given"), [("true", True), ("false", False)])
def test_rtabmap_gets_the_argument_that_deletes_its_database(text, given):
    context = LaunchContext()
    context.launch_configurations.update(stack="rtabmap", delete_db=text)
    description = PythonLaunchDescriptionSource(str(FOLDER / "mapping.launch.py")).get_launch_description(
        context
    )
    pending, words = list(description.entities), []
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node) and entity.node_executable == "rtabmap":
            words = [perform_substitutions(context, list(word)) for word in entity.cmd[1:] if _is_text(word)]
            break
        if not isinstance(entity, Node):
            pending = list(entity.visit(context) or []) + pending
    assert ("--delete_db_on_start" in words) == given


@pytest.mark.parametrize("stack", ["rtabmap", "nvblox", "depth_image_proc", "octomap"])
def test_mapping_launch_starts_the_stack_and_masks_doubtful_depth(stack):
    nodes = started("mapping.launch.py", stack=stack, image="/camera/image")
    assert list(nodes)[1:] == ["redepth_node", "refine_server"]
    for name in ("redepth_node", "refine_server"):
        assert nodes[name][0]["max_relative_gradient"] == 0.1
        assert nodes[name][0]["max_relative_stddev"] == 0.3
    assert (nodes["refine_server"][0]["max_age"], nodes["refine_server"][0]["time_budget"]) == (8.0, 6.0)
    given = {"refine_server": "composed", "max_relative_gradient": "0.0", "max_relative_stddev": ""}
    nodes = started("mapping.launch.py", stack=stack, **given)
    assert nodes["redepth_composed"][0]["max_relative_gradient"] == 0.0
