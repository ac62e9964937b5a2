"""Start redepth.launch.py and a mapping stack that uses its depth.

    ros2 launch redepth_ros mapping.launch.py stack:=rtabmap image:=/camera/image_rect \
        camera_info:=/camera/camera_info anchors:=depth anchors_topic:=/camera/depth/image

All arguments of redepth.launch.py are accepted, too. docs/how-to has a page for each stack.

Works with every launch_ros from Humble on.
"""

from pathlib import Path

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, LogInfo, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from redepth_ros.ros.launch_arguments import COMMON, Argument, declare_arguments, parse_arguments

HERE = Path(__file__).absolute().parent

PARAMS_FILE = HERE.parent / "config" / "redepth.yaml"

RELIABILITIES = {"reliable": 1, "best_effort": 2}
"""Numbers of rmw, which rtabmap takes."""

ARGUMENTS = {
    "stack": Argument(
        "Mapping stack.", "rtabmap", choices=("rtabmap", "nvblox", "depth_image_proc", "octomap")
    ),
    "source": Argument(
        "Depth for the map: refined keyframes, which arrive late, or the fast stream.",
        "refined",
        choices=("refined", "fast"),
    ),
    "map_frame": Argument("Fixed frame in which tf has the robot's pose.", "odom"),
    "base_frame": Argument("Frame of the robot.", "base_link"),
    "max_range": Argument("Largest depth that is mapped, metres.", "8.0", kind=float),
    "sync_queue_size": Argument(
        "Camera frames that rtabmap and depth_image_proc keep while one waits for its depth.", "60", kind=int
    ),
    "reliability": Argument(
        "Reliability of the image subscriptions of rtabmap and depth_image_proc; best_effort if the camera "
        "offers no more.",
        "reliable",
        choices=tuple(RELIABILITIES),
    ),
    "delete_db": Argument(
        "true lets rtabmap delete its database and begin a new map; false continues the old map, if there is "
        "one.",
        "false",
        kind=bool,
    ),
}

FORWARDED = {
    "max_age": Argument(
        "Older keyframes are not published, seconds (tf2 keeps 10 s by default); 0 disables the check.", "8.0"
    ),
    "time_budget": Argument("Time of a refinement, seconds; below max_age.", "6.0"),
    "max_relative_gradient": Argument(
        "Mask depth whose relative change from pixel to pixel exceeds this value (flying pixels); "
        "0 disables the check.",
        "0.1",
    ),
    "max_relative_stddev": Argument(
        "Mask depth whose relative standard deviation exceeds this value; 0 disables the check.", "0.3"
    ),
}
"""Arguments of redepth.launch.py that have other defaults here."""


def launch_stack(context):
    """Return the node of the stack for the values of the arguments, and what to say about its database."""
    value = parse_arguments({**COMMON, **ARGUMENTS}, context)
    topics = {  # image, depth, its calibration, points
        "fast": (value["image"], "depth/image", "depth/camera_info", "depth/points"),
        "refined": ("refined/image", "refined/depth", "refined/camera_info", "refined/points"),
    }
    stacks = {"rtabmap": rtabmap, "nvblox": nvblox, "depth_image_proc": depth_image_proc, "octomap": octomap}
    package, executable, parameters, remappings = stacks[value["stack"]](value, *topics[value["source"]])
    if value["use_sim_time"] is not None:
        parameters["use_sim_time"] = value["use_sim_time"]
    notice, options = database(value) if value["stack"] == "rtabmap" else ([], {})
    return [
        *notice,
        Node(
            package=package,
            executable=executable,
            namespace=value["namespace"],
            output="screen",
            parameters=[parameters],
            remappings=remappings,
            **options,
        ),
    ]


def database(value):
    """Return a log line about rtabmap's database, and the options of its node."""
    place = "its database, by default ~/.ros/rtabmap.db"
    if value["delete_db"]:
        return [LogInfo(msg=f"rtabmap deletes {place}, and begins a new map")], {
            "arguments": ["--delete_db_on_start"]
        }
    text = f"rtabmap continues the map of {place}, if there is one; delete_db:=true deletes it"
    return [LogInfo(msg=text)], {}


# Each stack: package, executable, parameters and remappings.


def rtabmap(value, image, depth, info, points):
    """RTAB-Map."""
    parameters = {
        "frame_id": value["base_frame"],
        "odom_frame_id": value["map_frame"],
        "subscribe_depth": True,
        "subscribe_rgb": True,
        "approx_sync": False,
        "sync_queue_size": value["sync_queue_size"],
        "topic_queue_size": value["sync_queue_size"],
        "qos_image": RELIABILITIES[value["reliability"]],
        "qos_camera_info": RELIABILITIES["reliable"],
        "wait_for_transform": 0.2,
        "Grid/RangeMax": str(value["max_range"]),
    }
    if value["source"] == "refined":
        # Keyframes are few: each of them is mapped, even if the robot has hardly moved.
        limits = ("Rtabmap/DetectionRate", "RGBD/LinearUpdate", "RGBD/AngularUpdate")
        parameters.update(dict.fromkeys(limits, "0"))
    remappings = [("rgb/image", image), ("depth/image", depth), ("rgb/camera_info", info)]
    return "rtabmap_slam", "rtabmap", parameters, remappings


def nvblox(value, image, depth, info, points):
    """Isaac ROS Nvblox."""
    refined = value["source"] == "refined"
    parameters = {
        "global_frame": value["map_frame"],
        "map_clearing_frame_id": value["base_frame"],
        "num_cameras": 1,
        "use_lidar": False,
        "static_mapper.projective_integrator_max_integration_distance_m": value["max_range"],
        # nvblox accepts rgb8 and bgra8 only; the encoding of the camera's own image is unknown here.
        "use_color": refined,
    }
    remappings = [("camera_0/depth/image", depth), ("camera_0/depth/camera_info", info)]
    if refined:
        # Otherwise the map of one keyframe has decayed before the next one arrives.
        parameters["decay_tsdf_rate_hz"] = 0.0
        remappings += [("camera_0/color/image", image), ("camera_0/color/camera_info", info)]
    return "nvblox_ros", "nvblox_node", parameters, remappings


def depth_image_proc(value, image, depth, info, points):
    """depth_image_proc's coloured clouds."""
    parameters = {"exact_sync": True, "queue_size": value["sync_queue_size"]}
    for topic in (image, depth):
        name = absolute(topic, value["namespace"])
        parameters[f"qos_overrides.{name}.subscription.reliability"] = value["reliability"]
    # From Jazzy on, depth_image_proc looks for the calibration next to the image topic.
    next_to_image = image[: image.rfind("/") + 1] + "camera_info"
    remappings = [
        ("rgb/image_rect_color", image),
        ("rgb/camera_info", info),
        (next_to_image, info),
        ("depth_registered/image_rect", depth),
    ]
    return "depth_image_proc", "point_cloud_xyzrgb_node", parameters, remappings


def octomap(value, image, depth, info, points):
    """OctoMap."""
    parameters = {
        "frame_id": value["map_frame"],
        "base_frame_id": value["base_frame"],
        "sensor_model.max_range": value["max_range"],
    }
    return "octomap_server", "octomap_server_node", parameters, [("cloud_in", points)]


def absolute(topic, namespace):
    """Return the full name of a topic."""
    return topic if topic.startswith("/") else "/" + f"{namespace}/{topic}".lstrip("/")


def generate_launch_description():
    """Return the arguments above, the stack, and redepth.launch.py."""
    ours = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(HERE / "redepth.launch.py")),
        launch_arguments={name: LaunchConfiguration(name) for name in FORWARDED}.items(),
    )
    # The stack first: if it is not installed, launch stops here and has started no node.
    return LaunchDescription(
        [
            *declare_arguments({**ARGUMENTS, **FORWARDED}, PARAMS_FILE),
            OpaqueFunction(function=launch_stack),
            ours,
        ]
    )
