"""Start fast depth and the refine server and, with `player:=...`, a camera that plays footage.

    ros2 launch redepth_ros redepth.launch.py image:=/camera/image_rect \
        camera_info:=/camera/camera_info model:=/path/to/Depth-Anything-V2-Small-hf

To refine on another machine, start the robot with `refine_server:=remote` and the workstation
with `depth_node:=false`, in the same ROS domain.

Works with every launch_ros from Humble on.
"""

import os
from pathlib import Path

from launch import LaunchDescription
from launch.actions import OpaqueFunction
from launch_ros.actions import Node

from redepth_ros.ros.launch_arguments import COMMON, Argument, declare_arguments, parse_arguments

CONFIG = Path(__file__).absolute().parents[1] / "config"
"""Beside this folder, in the repository as in an installation."""

PARAMS_FILE = CONFIG / "redepth.yaml"

DEPTH, SERVER = "redepth_node", "refine_server"

ARGUMENTS = {
    **COMMON,
    "camera_info": Argument("Topic of the image's camera_info.", "camera_info"),
    "params_file": Argument("File with the parameters of the nodes.", str(PARAMS_FILE)),
    "model": Argument(
        "Depth Anything model: a hub name, a folder, or 'tiny' (embedded, for trying out).",
        nodes=(DEPTH, SERVER),
    ),
    "device": Argument("Device of the networks: auto, cpu, cuda or cuda:N.", nodes=(DEPTH, SERVER)),
    "precision": Argument(
        "Data type of the networks: auto, float32, float16 or bfloat16.", nodes=(DEPTH, SERVER)
    ),
    "runtime": Argument(
        "Runtime of the fast depth: torch, compile, openvino or onnxruntime.", nodes=(DEPTH,)
    ),
    "prior_runtime": Argument("Runtime of the prior: torch, compile or cudagraphs.", nodes=(SERVER,)),
    "depth_node": Argument(
        "false starts no redepth_node, on a machine that only refines.", "true", kind=bool
    ),
    "refine_server": Argument(
        "Where keyframes are refined: in a process of its own, composed with redepth_node in one process, "
        "or by a remote server.",
        "process",
        choices=("process", "composed", "remote"),
    ),
    "prior": Argument(
        "Diffusion model: a hub name, a folder, or 'tiny' (embedded, for trying out).", nodes=(SERVER,)
    ),
    "preset": Argument("Settings of the refinement: default or paper.", nodes=(SERVER,)),
    "keyframes": Argument(
        "Frames that are refined: none, interval, motion, on_request or all.", nodes=(DEPTH,)
    ),
    "anchors": Argument("Source of metres: none, depth, points or height.", nodes=(DEPTH,)),
    "anchors_topic": Argument(
        "Topic of the anchors. Default: anchors/depth for depth images, anchors/points for clouds."
    ),
    "camera_height": Argument(
        "Height of the camera above the ground, metres, for anchors:=height.", kind=float, nodes=(DEPTH,)
    ),
    "time_budget": Argument(
        "Time of a refinement, seconds; 0 disables the limit.", kind=float, nodes=(SERVER,)
    ),
    "max_age": Argument(
        "Older keyframes are not published, seconds; 0 disables the check.", kind=float, nodes=(SERVER,)
    ),
    "max_relative_gradient": Argument(
        "Mask depth whose relative change from pixel to pixel exceeds this value (flying pixels); "
        "0 disables the check.",
        kind=float,
        nodes=(DEPTH, SERVER),
    ),
    "max_relative_stddev": Argument(
        "Mask depth whose relative standard deviation exceeds this value; 0 disables the check.",
        kind=float,
        nodes=(DEPTH, SERVER),
    ),
    "refined_frame_id": Argument(
        "Frame of the refined topics; empty is the frame of the image.", nodes=(SERVER,)
    ),
    "transport": Argument("Transport of the image: raw or compressed.", nodes=(DEPTH,)),
    "player": Argument(
        "Footage that is played as a camera: a path, or 'photographs' for those of scikit-image. "
        "Default: no player."
    ),
    "rviz": Argument("true starts rviz2 with this package's view.", "false", kind=bool),
    "rviz_frame": Argument("Fixed frame of rviz2. Default from config/redepth.rviz: camera_optical_frame."),
    "shared_memory": Argument(
        "true lets Fast DDS send whole images through shared memory (config/fastdds.xml), unless the "
        "environment names another profile.",
        "true",
        kind=bool,
    ),
}

PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Variables with the profile of Fast DDS; the second one up to Jazzy."""


def launch_nodes(context):
    """Return the nodes for the values of the arguments."""
    value = parse_arguments(ARGUMENTS, context)
    if not Path(value["params_file"]).is_file():
        raise FileNotFoundError(f"params_file is {value['params_file']!r}; this file does not exist")
    if not value["depth_node"] and value["refine_server"] == "remote":
        raise ValueError(
            "depth_node:=false with refine_server:=remote leaves nothing to start; omit one of them"
        )
    nodes = []
    if value["rviz"]:
        # First: if rviz2 is not installed, launch stops here and has started no node.
        nodes.append(rviz(value))
    if value["depth_node"] and value["refine_server"] == "composed":
        # Without a name, which would replace the names of both nodes.
        nodes.append(ours("redepth_composed", value, overrides(value, DEPTH, SERVER), name=None))
    else:
        if value["depth_node"]:
            nodes.append(ours(DEPTH, value, overrides(value, DEPTH)))
        if value["refine_server"] != "remote":
            nodes.append(ours(SERVER, value, overrides(value, SERVER)))
    if value["player"]:
        path = "" if value["player"] == "photographs" else value["player"]
        nodes.append(ours("camera_player", value, {"path": path}))
    return nodes


def overrides(value, *nodes):
    """Return the parameters of some nodes that the arguments set."""
    return {
        name: value[name]
        for name, argument in ARGUMENTS.items()
        if set(argument.nodes) & set(nodes) and value[name] not in (None, "")
    }


def ours(executable, value, parameters, name=""):
    """Return a node of this package, named after its executable unless `name` is None."""
    given = [value["params_file"], *sim_time(value), *([parameters] if parameters else [])]
    image = value["image"]
    remappings = [
        ("image", image),
        ("image/compressed", f"{image}/compressed"),
        ("camera_info", value["camera_info"]),
    ]
    if value["anchors_topic"]:
        remappings += [(f"anchors/{kind}", value["anchors_topic"]) for kind in ("depth", "points")]
    return Node(
        package="redepth_ros",
        executable=executable,
        name=executable if name == "" else name,
        parameters=given,
        remappings=remappings,
        **common(value),
    )


def rviz(value):
    """Return rviz2 with this package's view."""
    frame = ["-f", value["rviz_frame"]] if value["rviz_frame"] else []
    return Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", str(CONFIG / "redepth.rviz"), *frame],
        parameters=sim_time(value),
        remappings=[("image", value["image"])],
        **common(value),
    )


def sim_time(value):
    """Return the parameter use_sim_time if it is given."""
    return [] if value["use_sim_time"] is None else [{"use_sim_time": value["use_sim_time"]}]


def common(value):
    """Return the options of all nodes."""
    # The server ends after its current optimisation step; launch's default timeout is 5 s.
    options = {"namespace": value["namespace"], "output": "screen", "sigterm_timeout": "30"}
    if value["shared_memory"] and not any(os.environ.get(name) for name in PROFILES):
        old = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
        options["additional_env"] = {PROFILES[old]: str(CONFIG / "fastdds.xml")}
    return options


def generate_launch_description():
    """Return the arguments above and the nodes."""
    arguments = declare_arguments(ARGUMENTS, PARAMS_FILE)
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_nodes)])
