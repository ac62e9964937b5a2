"""launch/redepth.launch.py: nodes, parameters and errors."""

import re
from pathlib import Path

import pytest
import yaml

from redepth_ros.nodes.settings import DepthSettings, ServerSettings

CONFIG = Path(__file__).parents[2] / "config"
SETTINGS = {"redepth_node": DepthSettings, "refine_server": ServerSettings}


@pytest.fixture
def launch_file(load_launch_file):
    return load_launch_file("redepth.launch.py")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["redepth_node", "refine_server"]),
        ({"refine_server": "remote"}, ["redepth_node"]),
        ({"refine_server": "composed"}, ["redepth_composed"]),
        ({"depth_node": "false"}, ["refine_server"]),
        ({"depth_node": "0", "refine_server": "composed"}, ["refine_server"]),
        ({"depth_node": "1"}, ["redepth_node", "refine_server"]),
        (
            {"player": "photographs", "rviz": "yes"},
            ["rviz2", "redepth_node", "refine_server", "camera_player"],
        ),
    ],
)
def test_nodes_are_started_as_the_arguments_say(launch_file, given, expected):
    nodes = launch_file.nodes(**given)
    assert list(nodes) == expected
    names = [options.get("name") for name, options in nodes.items() if name != "rviz2"]
    assert names == [None if name == "redepth_composed" else name for name in expected if name != "rviz2"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"refine_server": "there"},
            "refine_server is 'there'; it must be one of: process, composed, remote",
        ),
        ({"depth_node": "perhaps"}, "depth_node is 'perhaps'; it must be true or false"),
        ({"use_sim_time": "sim"}, "use_sim_time is 'sim'; it must be true or false"),
        ({"camera_height": "high"}, "camera_height is 'high'; it must be a number"),
        ({"params_file": "/no/such/file"}, "params_file is '/no/such/file'; this file does not exist"),
        ({"depth_node": "false", "refine_server": "remote"}, "leaves nothing to start"),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(launch_file, given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        launch_file.nodes(**given)


def test_arguments_set_the_parameters_of_the_nodes_that_have_them(launch_file):
    both = {"model": "tiny", "device": "cpu", "precision": "float32"}
    both |= {"max_relative_gradient": "0.2", "max_relative_stddev": "0"}
    depth = {
        "runtime": "openvino",
        "transport": "compressed",
        "keyframes": "all",
        "anchors": "height",
        "camera_height": "2",
    }
    server = {
        "prior": "tiny",
        "prior_runtime": "compile",
        "preset": "paper",
        "refined_frame_id": "map",
        "max_age": "4",
        "time_budget": "3",
    }
    found = launch_file.parameters(**both, **depth, **server)
    numbers = {"max_relative_gradient": 0.2, "max_relative_stddev": 0.0}
    assert found["redepth_node"] == {**both, **numbers, **depth, "camera_height": 2.0}
    assert found["refine_server"] == {**both, **numbers, **server, "max_age": 4.0, "time_budget": 3.0}
    composed = launch_file.parameters(refine_server="composed", **both, **depth, **server)
    assert composed == {"redepth_composed": {**found["redepth_node"], **found["refine_server"]}}


def test_arguments_that_set_a_parameter_have_its_name_and_type(launch_file):
    for name, argument in launch_file.module.ARGUMENTS.items():
        for node in argument.nodes:
            assert type(getattr(SETTINGS[node](), name)) is argument.kind, name


def test_descriptions_name_every_choice_of_the_parameters(launch_file):
    """Launch files don't import torch, and so they can't read the choices."""
    for name, argument in launch_file.module.ARGUMENTS.items():
        for node in argument.nodes:
            (declared,) = (one for field, one in SETTINGS[node].declared() if field.name == name)
            assert set(declared.choices) <= set(re.findall(r"\w+", argument.description)), name


def test_descriptions_quote_the_defaults_of_the_parameters(launch_file):
    arguments = launch_file.arguments()
    assert set(arguments) == set(launch_file.module.ARGUMENTS)
    for name, argument in launch_file.module.ARGUMENTS.items():
        if argument.nodes:
            default = getattr(SETTINGS[argument.nodes[0]](), name)
            assert arguments[name]["description"].endswith(f"Default from params_file: {default!r}.")
        else:
            description = arguments[name]["description"]
            assert arguments[name]["default_value"] or "efault" in description or "amespace" in description


def test_topics_are_remapped(launch_file):
    given = {"image": "/camera/image_rect", "camera_info": "/camera/info", "anchors_topic": "/lidar"}
    for options in launch_file.nodes(**given, player="photographs").values():
        assert dict(options["remappings"]) == {
            "image": "/camera/image_rect",
            "image/compressed": "/camera/image_rect/compressed",
            "camera_info": "/camera/info",
            "anchors/depth": "/lidar",
            "anchors/points": "/lidar",
        }
    assert dict(launch_file.nodes()["redepth_node"]["remappings"])["image"] == "image"


@pytest.mark.parametrize(("text", "value"), [("1", True), ("true", True), ("false", False)])
def test_use_sim_time_reaches_every_node_and_overrides_the_params_file(launch_file, text, value):
    nodes = launch_file.nodes(use_sim_time=text, rviz="true", player="photographs")
    for executable, options in nodes.items():
        position = 0 if executable == "rviz2" else 1
        assert options["parameters"][position] == {"use_sim_time": value}
    for options in launch_file.nodes(rviz="true").values():
        assert {"use_sim_time": True} not in options["parameters"]


def test_the_packaged_params_file_is_the_default(launch_file):
    path = launch_file.nodes()["redepth_node"]["parameters"][0]
    assert Path(path) == CONFIG / "redepth.yaml"
    assert launch_file.nodes(params_file="")["redepth_node"]["parameters"][0] == path
    assert launch_file.nodes(params_file=__file__)["redepth_node"]["parameters"] == [__file__]


def test_player_gets_a_path_or_the_photographs(launch_file):
    assert launch_file.parameters(player="photographs")["camera_player"] == {"path": ""}
    assert launch_file.parameters(player="/a/video.mp4")["camera_player"] == {"path": "/a/video.mp4"}


def test_rviz_shows_the_packaged_view_in_the_given_frame(launch_file):
    view = str(CONFIG / "redepth.rviz")
    assert launch_file.nodes(rviz="true")["rviz2"]["arguments"] == ["-d", view]
    given = launch_file.nodes(rviz="true", rviz_frame="camera_link")["rviz2"]["arguments"]
    assert given == ["-d", view, "-f", "camera_link"]
    manager = yaml.safe_load(Path(view).read_text())["Visualization Manager"]
    assert manager["Global Options"]["Fixed Frame"] in launch_file.arguments()["rviz_frame"]["description"]
    assert manager["Views"]["Current"]["Target Frame"] == "<Fixed Frame>"


@pytest.mark.parametrize(
    ("distribution", "variable"),
    [
        ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_fast_dds_gets_shared_memory_unless_a_profile_is_set(
    launch_file, monkeypatch, distribution, variable
):
    for name in launch_file.module.PROFILES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_DISTRO", distribution)
    for options in launch_file.nodes(rviz="true").values():
        assert options["additional_env"] == {variable: str(CONFIG / "fastdds.xml")}
    assert "additional_env" not in launch_file.nodes(shared_memory="off")["redepth_node"]
    monkeypatch.setenv("FASTDDS_DEFAULT_PROFILES_FILE", "/my/profile.xml")
    assert "additional_env" not in launch_file.nodes()["redepth_node"]


def test_nodes_have_the_namespace_and_time_to_end(launch_file):
    for options in launch_file.nodes(namespace="robot").values():
        assert (options["namespace"], options["output"]) == ("robot", "screen")
        assert float(options["sigterm_timeout"]) >= 30
