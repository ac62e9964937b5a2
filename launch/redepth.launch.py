"""Start fast depth and the refine server, and with `player:=...` a camera to go with them.

    ros2 launch redepth_ros redepth.launch.py image:=/camera/image_rect \
        camera_info:=/camera/camera_info model:=/path/to/Depth-Anything-V2-Small-hf

To refine on another machine: `refine:=elsewhere` on the robot, and on the workstation
`fast:=false`, in one ROS domain.

Nothing here is newer than Humble's launch_ros.
"""

import os
from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {
    "image": ("image", "image topic; with transport:=compressed, <image>/compressed"),
    "camera_info": ("camera_info", "the image's camera_info topic"),
    "namespace": ("", "namespace of the nodes and of their topics"),
    "params_file": ("", "parameters; empty: config/redepth.yaml of this package"),
    "model": ("", "hub name, folder, or 'tiny' (for trying out); empty: the params_file's"),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: the params_file's"),
    "fast": ("true", "false leaves redepth_node out: for a machine that only refines"),
    "refine": ("process", "where the server runs: process, together (with redepth_node), or elsewhere"),
    "prior": ("", "diffusion model: hub name, folder, or 'tiny'; empty: the params_file's"),
    "preset": ("", "fast or paper; empty: the params_file's"),
    "keyframes": ("", "none, interval, motion, on_request or all; empty: the params_file's"),
    "anchors": ("", "where metres come from: none, depth, points or height; empty: the params_file's"),
    "anchors_topic": (
        "",
        "of the anchors' depth images or clouds; empty: anchors/depth, anchors/points",
    ),
    "camera_height": ("", "of the camera over the ground, metres, with anchors:=height"),
    "max_age": ("", "older keyframes are not published, seconds; empty: the params_file's"),
    "max_edge": (
        "",
        "depth that changes by a larger share of itself from pixel to pixel is invalid; empty: the "
        "params_file's",
    ),
    "max_relative_stddev": (
        "",
        "depth with a larger standard deviation over itself is invalid; empty: the params_file's",
    ),
    "refined_frame_id": ("", "frame of the refined topics; empty: the image's"),
    "transport": ("", "raw or compressed; empty: the params_file's"),
    "player": ("", "footage to play as a raw camera: a path, or 'photographs'; empty: no player"),
    "rviz": ("false", "true starts rviz2 with this package's view"),
    "shared_memory": (
        "true",
        "true gives Fast DDS shared memory for whole images, config/fastdds.xml, where the environment "
        "names no profile",
    ),
    "use_sim_time": ("", "true takes time from /clock; empty: the params_file's"),
}

PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
"""Where Fast DDS reads its profile from; the second up to Jazzy."""


def launch_nodes(context):
    """The nodes, by the values of the arguments."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    config = Path(get_package_share_directory("redepth_ros"), "config")
    params_file = value["params_file"] or str(config / "redepth.yaml")
    if not Path(params_file).is_file():
        raise FileNotFoundError(f"params_file is {params_file!r}, and there is no such file")
    # The server ends after the optimisation step at work: longer than launch's patience of 5 s.
    common = {"namespace": value["namespace"], "output": "screen", "sigterm_timeout": "30"}
    if value["shared_memory"].lower() == "true" and not any(os.environ.get(name) for name in PROFILES):
        old = os.environ.get("ROS_DISTRO") in ("humble", "jazzy")
        common["additional_env"] = {PROFILES[old]: str(config / "fastdds.xml")}
    sim_time = [{"use_sim_time": value["use_sim_time"].lower() == "true"}] if value["use_sim_time"] else []
    image = value["image"] or "image"
    remappings = [
        ("image", image),
        ("image/compressed", image + "/compressed"),
        ("camera_info", value["camera_info"] or "camera_info"),
    ]
    if value["anchors_topic"]:
        remappings += [(f"anchors/{kind}", value["anchors_topic"]) for kind in ("depth", "points")]

    def ours(executable, overrides, name=None):
        parameters = [params_file, *sim_time, *([overrides] if overrides else [])]
        return Node(package="redepth_ros", executable=executable, name=name,
                    parameters=parameters, remappings=remappings, **common)  # fmt: skip

    if value["refine"] not in ("process", "together", "elsewhere"):
        raise ValueError(f"refine is {value['refine']!r}; it must be process, together or elsewhere")
    if value["refine"] == "elsewhere" and value["fast"].lower() != "true":
        raise ValueError(
            "with fast:=false and refine:=elsewhere there is nothing to start; leave one of them out"
        )
    nodes = []
    if value["rviz"].lower() == "true":
        # First: where rviz2 is not installed, launch stops here and leaves no node behind.
        view = ["-d", str(config / "redepth.rviz")]
        nodes.append(Node(package="rviz2", executable="rviz2", arguments=view, parameters=sim_time,
                          remappings=remappings[:1], **common))  # fmt: skip
    fast, refining = value["fast"].lower() == "true", value["refine"] != "elsewhere"
    given = {name: value[name] for name in ("model", "device") if value[name]}
    given |= {name: float(value[name]) for name in ("max_edge", "max_relative_stddev") if value[name]}
    for_fast = {name: value[name] for name in ("transport", "keyframes", "anchors") if value[name]}
    for_server = {name: value[name] for name in ("prior", "preset", "refined_frame_id") if value[name]}
    if value["camera_height"]:
        for_fast["camera_height"] = float(value["camera_height"])
    if value["max_age"]:
        for_server["max_age"] = float(value["max_age"])
    if fast and value["refine"] == "together":
        # Without a name: it would be both nodes' own.
        nodes.append(ours("redepth_together", {**given, **for_fast, **for_server}))
    else:
        if fast:
            nodes.append(ours("redepth_node", {**given, **for_fast}, "redepth_node"))
        if refining:
            nodes.append(ours("refine_server", {**given, **for_server}, "refine_server"))
    if value["player"]:
        path = "" if value["player"] == "photographs" else value["player"]
        nodes.append(ours("camera_player", {"path": path}, "camera_player"))
    return nodes


def generate_launch_description():
    """The arguments above and the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_nodes)])
