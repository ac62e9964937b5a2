"""Start redepth.launch.py, and a mapping stack that takes its depth.

    ros2 launch redepth_ros mapping.launch.py stack:=rtabmap image:=/camera/image_rect \
        camera_info:=/camera/camera_info anchors:=depth anchors_topic:=/camera/depth/image

All arguments of redepth.launch.py may be given, too. What each stack takes, and why: docs/stacks.

Nothing here is newer than Humble's launch_ros.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

ARGUMENTS = {
    "stack": ("rtabmap", "rtabmap, nvblox, depth_image_proc or octomap"),
    "source": ("refined", "refined keyframes, which come late, or the fast stream"),
    "map_frame": ("odom", "fixed frame in which tf knows the robot's pose"),
    "base_frame": ("base_link", "the robot's own frame"),
    "max_range": ("8.0", "depth beyond it is not mapped, metres"),
    "max_age": ("8.0", "older keyframes are not published: tf2 keeps 10 s by default, seconds"),
}

PASSED_ON = ("namespace", "image", "use_sim_time")
"""Arguments of redepth.launch.py that the stack needs to know, too."""


def launch_stack(context):
    """The stack's node, by the values of the arguments."""
    value = {
        name: LaunchConfiguration(name, default="").perform(context) for name in (*ARGUMENTS, *PASSED_ON)
    }
    topics = {  # image, depth, its calibration, points
        "fast": (value["image"] or "image", "depth/image", "depth/camera_info", "depth/points"),
        "refined": ("refined/image", "refined/depth", "refined/camera_info", "refined/points"),
    }
    if value["source"] not in topics:
        raise ValueError(f"source is {value['source']!r}; it must be one of: {', '.join(topics)}")
    image, depth, info, points = topics[value["source"]]
    fixed, base, reach = value["map_frame"], value["base_frame"], float(value["max_range"])
    stacks = {
        "rtabmap": ("rtabmap_slam", "rtabmap", {
            "frame_id": base, "odom_frame_id": fixed, "subscribe_depth": True, "subscribe_rgb": True,
            "approx_sync": False, "wait_for_transform": 0.2, "qos_image": 1, "qos_camera_info": 1,
            # Keyframes are few: all of them belong in the map, how little the robot may have moved.
            "Rtabmap/DetectionRate": "0", "RGBD/LinearUpdate": "0", "RGBD/AngularUpdate": "0",
            "Grid/RangeMax": value["max_range"],
        }, [("rgb/image", image), ("depth/image", depth), ("rgb/camera_info", info)]),
        "nvblox": ("nvblox_ros", "nvblox_node", {
            "global_frame": fixed, "num_cameras": 1, "use_lidar": False,
            "static_mapper.projective_integrator_max_integration_distance_m": reach,
        }, [("camera_0/depth/image", depth), ("camera_0/depth/camera_info", info),
            ("camera_0/color/image", image), ("camera_0/color/camera_info", info)]),
        "depth_image_proc": ("depth_image_proc", "point_cloud_xyzrgb_node", {"exact_sync": True}, [
            ("rgb/image_rect_color", image), ("rgb/camera_info", info),
            ("depth_registered/image_rect", depth),
        ]),
        "octomap": ("octomap_server", "octomap_server_node", {
            "frame_id": fixed, "base_frame_id": base, "sensor_model.max_range": reach,
        }, [("cloud_in", points)]),
    }  # fmt: skip
    if value["stack"] not in stacks:
        raise ValueError(f"stack is {value['stack']!r}; it must be one of: {', '.join(stacks)}")
    package, executable, parameters, remappings = stacks[value["stack"]]
    if value["use_sim_time"]:
        parameters["use_sim_time"] = value["use_sim_time"].lower() == "true"
    return [
        Node(package=package, executable=executable, namespace=value["namespace"], output="screen",
             parameters=[parameters], remappings=remappings)
    ]  # fmt: skip


def generate_launch_description():
    """The arguments above, redepth.launch.py, and the stack."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    ours = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("redepth.launch.py"))),
        launch_arguments={"max_age": LaunchConfiguration("max_age")}.items(),
    )
    # The stack first: where it is not installed, launch stops here and leaves no node behind.
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_stack), ours])
