"""Start fast depth, and with `player:=...` a camera to go with it.

    ros2 launch redepth_ros redepth.launch.py image:=/camera/image_rect \
        camera_info:=/camera/camera_info model:=/path/to/Depth-Anything-V2-Small-hf

Nothing here is newer than Humble's launch_ros.
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {
    "image": ("image", "image topic; compressed images are taken from <image>/compressed"),
    "camera_info": ("camera_info", "the image's camera_info topic"),
    "namespace": ("", "namespace of the nodes and of their topics"),
    "params_file": ("", "parameters; empty: config/redepth.yaml of this package"),
    "model": ("", "hub name, folder, or 'tiny' (for trying out); empty: the params_file's"),
    "device": ("", "auto, cpu, cuda or cuda:N; empty: the params_file's"),
    "transport": ("", "raw or compressed; empty: the params_file's"),
    "player": ("", "footage to play as the camera: a path, or 'photographs'; empty: no player"),
    "rviz": ("false", "true starts rviz2 with this package's view"),
    "use_sim_time": ("false", "true takes time from /clock"),
}


def launch_nodes(context):
    """The nodes, by the values of the arguments."""
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    config = Path(get_package_share_directory("redepth_ros"), "config")
    params_file = value["params_file"] or str(config / "redepth.yaml")
    sim_time = {"use_sim_time": value["use_sim_time"].lower() == "true"}
    remappings = [
        ("image", value["image"]),
        ("image/compressed", value["image"] + "/compressed"),
        ("camera_info", value["camera_info"]),
    ]

    def node(executable, parameters, **more):
        return Node(
            executable=executable,
            namespace=value["namespace"],
            parameters=[*parameters, sim_time],
            output="screen",
            **more,
        )

    def ours(executable, overrides):
        parameters = [params_file, overrides] if overrides else [params_file]
        return node(executable, parameters, package="redepth_ros", name=executable, remappings=remappings)

    given = {name: value[name] for name in ("model", "device", "transport") if value[name]}
    nodes = [ours("redepth_node", given)]
    if value["player"]:
        path = "" if value["player"] == "photographs" else value["player"]
        nodes.append(ours("camera_player", {"path": path}))
    if value["rviz"].lower() == "true":
        view = ["-d", str(config / "redepth.rviz")]
        nodes.append(node("rviz2", [], package="rviz2", arguments=view, remappings=remappings[:1]))
    return nodes


def generate_launch_description():
    """The arguments above and the nodes."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_nodes)])
