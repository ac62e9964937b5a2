"""The launch file, where launch_ros is installed (it is not on PyPI)."""

import itertools
from pathlib import Path

import pytest

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: source a ROS 2 to test the launch file"
)

import yaml
from launch import LaunchContext
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.utilities import perform_substitutions
from launch_ros.actions import Node

FOLDER = Path(__file__).parents[2] / "launch"


def actions_of(file, arguments):
    """The nodes that a launch file starts with some arguments, and the context that they have."""
    context = LaunchContext()
    context.launch_configurations.update(arguments)
    pending = list(PythonLaunchDescriptionSource(str(FOLDER / file)).get_launch_description(context).entities)
    nodes = []
    while pending:
        entity = pending.pop(0)
        if isinstance(entity, Node):
            nodes.append(entity)
        else:
            pending = list(entity.visit(context) or []) + pending
    return nodes, context


def nodes_of(file="redepth.launch.py", **arguments):
    """The executables that a launch file starts with some arguments."""
    return [node.node_executable for node in actions_of(file, arguments)[0]]


def mapping(**arguments):
    """Parameters and remaps of each executable that mapping.launch.py starts with some arguments.

    They are read from the command line, of which the first word, the executable's path, is left out:
    the stacks are not installed.
    """
    nodes, context = actions_of("mapping.launch.py", arguments)
    found = {}
    for node in nodes:
        node._perform_substitutions(context)
        words = [perform_substitutions(context, list(word)) for word in node.cmd[1:] if _is_text(word)]
        options = list(itertools.pairwise(words))
        parameters = {}
        for path in (path for option, path in options if option == "--params-file"):
            for section, values in yaml.safe_load(Path(path).read_text()).items():
                if section.split("/")[-1] in ("**", node.node_executable):
                    parameters |= values["ros__parameters"]
        rules = dict(rule.split(":=") for option, rule in options if option == "-r" and ":=" in rule)
        found[node.node_executable] = parameters, rules
    return found


def _is_text(word):
    """Whether a part of a command line is known before the process starts."""
    return not any(type(part).__name__ == "LocalSubstitution" for part in word)


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


IMAGE = "/camera/image_rect"


def stack_of(stack, **arguments):
    """Parameters and remaps of a stack's node."""
    return next(iter(mapping(stack=stack, image=IMAGE, anchors="depth", **arguments).values()))


@pytest.mark.parametrize(
    ("source", "image", "depth", "info"),
    [
        ("refined", "refined/image", "refined/depth", "refined/camera_info"),
        ("fast", IMAGE, "depth/image", "depth/camera_info"),
    ],
)
def test_what_rtabmap_and_depth_image_proc_subscribe(source, image, depth, info):
    assert stack_of("rtabmap", source=source)[1] == {
        "rgb/image": image, "depth/image": depth, "rgb/camera_info": info,
    }  # fmt: skip
    beside = "/camera/camera_info" if source == "fast" else info
    assert stack_of("depth_image_proc", source=source)[1] == {
        "rgb/image_rect_color": image, "depth_registered/image_rect": depth,
        "rgb/camera_info": info, beside: info,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("image", "beside"),
    [
        ("", "camera_info"),
        ("image", "camera_info"),
        ("front/image", "front/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_the_calibration_beside_the_image_is_remapped_to_ours(image, beside):
    nodes = mapping(stack="depth_image_proc", source="fast", image=image, refine="together")
    assert nodes["point_cloud_xyzrgb_node"][1][beside] == "depth/camera_info"


def test_late_depth_finds_its_image_in_the_queue():
    for given, size in ({}, 60), ({"sync_queue_size": "90"}, 90):
        rtabmap = stack_of("rtabmap", source="fast", **given)[0]
        assert (rtabmap["approx_sync"], rtabmap["sync_queue_size"], rtabmap["topic_queue_size"]) == (
            False, size, size,
        )  # fmt: skip
        clouds = stack_of("depth_image_proc", source="fast", **given)[0]
        assert (clouds["exact_sync"], clouds["queue_size"]) == (True, size)


def test_images_of_a_best_effort_camera_can_be_subscribed():
    assert stack_of("rtabmap", source="fast")[0]["qos_image"] == 1
    rtabmap = stack_of("rtabmap", source="fast", reliability="best_effort")[0]
    assert (rtabmap["qos_image"], rtabmap["qos_camera_info"]) == (2, 1)
    clouds = stack_of("depth_image_proc", source="fast", reliability="best_effort", namespace="robot")[0]
    for topic in (IMAGE, "/robot/depth/image"):
        assert clouds[f"qos_overrides.{topic}.subscription.reliability"] == "best_effort"


def test_rtabmap_takes_every_keyframe_and_not_every_frame():
    limits = "Rtabmap/DetectionRate", "RGBD/LinearUpdate", "RGBD/AngularUpdate"
    refined, fast = (stack_of("rtabmap", source=source)[0] for source in ("refined", "fast"))
    assert [refined[name] for name in limits] == ["0", "0", "0"]
    assert not set(limits) & set(fast)


def test_nvblox_gets_colours_only_where_they_are_rgb8():
    parameters, rules = stack_of("nvblox")
    assert parameters["use_color"]
    assert parameters["decay_tsdf_rate_hz"] == 0.0
    assert rules == {
        "camera_0/depth/image": "refined/depth", "camera_0/depth/camera_info": "refined/camera_info",
        "camera_0/color/image": "refined/image", "camera_0/color/camera_info": "refined/camera_info",
    }  # fmt: skip
    parameters, rules = stack_of("nvblox", source="fast")
    assert not parameters["use_color"]
    assert "decay_tsdf_rate_hz" not in parameters
    assert rules == {
        "camera_0/depth/image": "depth/image", "camera_0/depth/camera_info": "depth/camera_info",
    }  # fmt: skip


@pytest.mark.parametrize(("source", "topic"), [("refined", "refined/points"), ("fast", "depth/points")])
def test_octomap_gets_clouds(source, topic):
    assert stack_of("octomap", source=source)[1] == {"cloud_in": topic}


@pytest.mark.parametrize(
    ("stack", "fixed", "base", "reach"),
    [
        ("rtabmap", "odom_frame_id", "frame_id", ("Grid/RangeMax", "3.5")),
        ("nvblox", "global_frame", "map_clearing_frame_id",
         ("static_mapper.projective_integrator_max_integration_distance_m", 3.5)),
        ("octomap", "frame_id", "base_frame_id", ("sensor_model.max_range", 3.5)),
    ],
)  # fmt: skip
def test_frames_range_and_clock_reach_the_stack(stack, fixed, base, reach):
    given = {"map_frame": "world", "base_frame": "chassis", "max_range": "3.5", "use_sim_time": "true"}
    parameters = stack_of(stack, **given)[0]
    assert (parameters[fixed], parameters[base]) == ("world", "chassis")
    assert parameters[reach[0]] == reach[1]
    assert parameters["use_sim_time"] is True


@pytest.mark.parametrize("stack", ["rtabmap", "nvblox", "depth_image_proc", "octomap"])
def test_what_must_not_be_mapped_is_left_out_by_both_nodes(stack):
    nodes = mapping(stack=stack)
    for name in ("redepth_node", "refine_server"):
        assert (nodes[name][0]["max_edge"], nodes[name][0]["max_relative_stddev"]) == (0.1, 0.3)
    assert nodes["refine_server"][0]["max_age"] == 8.0
    nodes = mapping(stack=stack, refine="together", max_edge="0.0", max_relative_stddev="")
    assert nodes["redepth_together"][0]["max_edge"] == 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("stack", "slam"), ("source", "slow"), ("reliability", "perhaps")]
)
def test_an_unknown_choice_is_an_error(name, value):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; it must be one of"):
        nodes_of("mapping.launch.py", **{name: value})
