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
    "max_edge": (
        "0.1",
        "depth that changes by a larger share of itself from pixel to pixel is not mapped (flying pixels); "
        "0 is any",
    ),
    "max_relative_stddev": (
        "0.3", "depth with a larger standard deviation over itself is not mapped; 0 is any",
    ),
    "sync_queue_size": (
        "60",
        "of rtabmap and depth_image_proc: camera frames that may come while one waits for its depth",
    ),
    "reliability": (
        "reliable",
        "of the image subscriptions of rtabmap and depth_image_proc; best_effort where the camera offers no "
        "more",
    ),
}  # fmt: skip

SHARED = ("namespace", "image", "use_sim_time")
"""Arguments of redepth.launch.py that the stack needs to know, too."""

OURS = ("max_age", "max_edge", "max_relative_stddev")
"""Arguments of redepth.launch.py that have other defaults here."""


def launch_stack(context):
    """The stack's node, by the values of the arguments."""
    value = {name: LaunchConfiguration(name, default="").perform(context) for name in (*ARGUMENTS, *SHARED)}
    topics = {  # image, depth, its calibration, points
        "fast": (value["image"] or "image", "depth/image", "depth/camera_info", "depth/points"),
        "refined": ("refined/image", "refined/depth", "refined/camera_info", "refined/points"),
    }
    reliabilities = {"reliable": 1, "best_effort": 2}  # as rmw, and with it rtabmap, numbers them
    for name, known in (("source", topics), ("reliability", reliabilities)):
        if value[name] not in known:
            raise ValueError(f"{name} is {value[name]!r}; it must be one of: {', '.join(known)}")
    refined = value["source"] == "refined"
    image, depth, info, points = topics[value["source"]]
    fixed, base, reach = value["map_frame"], value["base_frame"], float(value["max_range"])
    queue, reliability = int(value["sync_queue_size"]), reliabilities[value["reliability"]]
    # Keyframes are few: all of them belong in the map, how little the robot may have moved.
    every_frame = {"Rtabmap/DetectionRate": "0", "RGBD/LinearUpdate": "0", "RGBD/AngularUpdate": "0"}
    # From Jazzy on depth_image_proc looks for the calibration beside the image, wherever that is.
    beside_image = image[: image.rfind("/") + 1] + "camera_info"
    stacks = {
        "rtabmap": ("rtabmap_slam", "rtabmap", {
            "frame_id": base, "odom_frame_id": fixed, "subscribe_depth": True, "subscribe_rgb": True,
            "approx_sync": False, "sync_queue_size": queue, "topic_queue_size": queue,
            "qos_image": reliability, "qos_camera_info": reliabilities["reliable"],
            "wait_for_transform": 0.2, "Grid/RangeMax": value["max_range"],
            **(every_frame if refined else {}),
        }, [("rgb/image", image), ("depth/image", depth), ("rgb/camera_info", info)]),
        "nvblox": ("nvblox_ros", "nvblox_node", {
            "global_frame": fixed, "map_clearing_frame_id": base, "num_cameras": 1, "use_lidar": False,
            "static_mapper.projective_integrator_max_integration_distance_m": reach,
            # Of the camera's own image nobody knows here whether it is rgb8 or bgra8, all that nvblox takes.
            "use_color": refined,
            # What one keyframe saw must not have faded when the next one comes.
            **({"decay_tsdf_rate_hz": 0.0} if refined else {}),
        }, [("camera_0/depth/image", depth), ("camera_0/depth/camera_info", info),
            *([("camera_0/color/image", image), ("camera_0/color/camera_info", info)] if refined else [])]),
        "depth_image_proc": ("depth_image_proc", "point_cloud_xyzrgb_node", {
            "exact_sync": True, "queue_size": queue,
            **{f"qos_overrides.{_absolute(topic, value['namespace'])}.subscription.reliability":
               value["reliability"] for topic in (image, depth)},
        }, [("rgb/image_rect_color", image), ("rgb/camera_info", info), (beside_image, info),
            ("depth_registered/image_rect", depth)]),
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


def _absolute(topic, namespace):
    """The whole name of a topic."""
    return topic if topic.startswith("/") else "/" + f"{namespace}/{topic}".lstrip("/")


def generate_launch_description():
    """The arguments above, redepth.launch.py, and the stack."""
    arguments = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    ours = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(Path(__file__).with_name("redepth.launch.py"))),
        launch_arguments={name: LaunchConfiguration(name) for name in OURS}.items(),
    )
    # The stack first: where it is not installed, launch stops here and leaves no node behind.
    return LaunchDescription([*arguments, OpaqueFunction(function=launch_stack), ours])
