"""launch/mapping.launch.py: what each mapping stack gets."""

import pytest

IMAGE = "/camera/image_rect"
EXECUTABLES = {
    "rtabmap": "rtabmap",
    "nvblox": "nvblox_node",
    "depth_image_proc": "point_cloud_xyzrgb_node",
    "octomap": "octomap_server_node",
}


@pytest.fixture
def launch_file(load_launch_file):
    return load_launch_file("mapping.launch.py")


@pytest.fixture
def stack(launch_file):
    """Return parameters and remappings of a stack's node for some arguments."""

    def start(name, image=IMAGE, **given):
        nodes = launch_file.nodes(stack=name, image=image, **given)
        (options,) = nodes.values()
        return options["parameters"][0], dict(options["remappings"])

    return start


@pytest.mark.parametrize("name", EXECUTABLES)
@pytest.mark.parametrize("source", ["fast", "refined"])
def test_the_node_of_the_stack_is_started(launch_file, name, source):
    nodes = launch_file.nodes(stack=name, source=source, namespace="robot")
    assert list(nodes) == [EXECUTABLES[name]]
    assert nodes[EXECUTABLES[name]]["namespace"] == "robot"


def test_redepth_is_started_after_the_stack_with_its_own_defaults(launch_file):
    entities = launch_file.module.generate_launch_description().args[0]
    kinds = [type(entity).__name__ for entity in entities]
    assert kinds[-2:] == ["OpaqueFunction", "IncludeLaunchDescription"]
    (source,), included = entities[-1].args, entities[-1].options
    assert source.args[0].endswith("launch/redepth.launch.py")
    forwarded = dict(included["launch_arguments"])
    defaults = {
        "max_age": "8.0",
        "time_budget": "6.0",
        "max_relative_gradient": "0.1",
        "max_relative_stddev": "0.3",
    }
    assert {name: value.args[0] for name, value in forwarded.items()} == {name: name for name in defaults}
    arguments = launch_file.arguments()
    assert {name: arguments[name]["default_value"] for name in defaults} == defaults


def test_every_argument_has_a_default(launch_file):
    assert all(options["default_value"] for options in launch_file.arguments().values())


def test_rtabmap_keeps_its_database_unless_it_is_told_to_delete_it(launch_file):
    assert "arguments" not in launch_file.nodes(stack="rtabmap")["rtabmap"]
    (message,) = launch_file.messages(stack="rtabmap", delete_db="no")
    assert "continues the map" in message
    assert "delete_db:=true" in message
    assert launch_file.nodes(stack="rtabmap", delete_db="1")["rtabmap"]["arguments"] == [
        "--delete_db_on_start"
    ]
    (message,) = launch_file.messages(stack="rtabmap", delete_db="true")
    assert "deletes its database" in message
    for stack in ("nvblox", "octomap", "depth_image_proc"):
        assert "arguments" not in launch_file.nodes(stack=stack, delete_db="true")[EXECUTABLES[stack]]
        assert not launch_file.messages(stack=stack)


@pytest.mark.parametrize(
    ("source", "image", "depth", "info"),
    [
        ("refined", "refined/image", "refined/depth", "refined/camera_info"),
        ("fast", IMAGE, "depth/image", "depth/camera_info"),
    ],
)
def test_rtabmap_and_depth_image_proc_subscribe_to_depth_of_one_stamp(stack, source, image, depth, info):
    assert stack("rtabmap", source=source)[1] == {
        "rgb/image": image,
        "depth/image": depth,
        "rgb/camera_info": info,
    }
    next_to_image = "/camera/camera_info" if source == "fast" else info
    assert stack("depth_image_proc", source=source)[1] == {
        "rgb/image_rect_color": image,
        "depth_registered/image_rect": depth,
        "rgb/camera_info": info,
        next_to_image: info,
    }


@pytest.mark.parametrize(
    ("image", "next_to_image"),
    [
        ("", "camera_info"),
        ("image", "camera_info"),
        ("front/image", "front/camera_info"),
        ("/image", "/camera_info"),
    ],
)
def test_the_calibration_next_to_the_image_is_remapped(stack, image, next_to_image):
    remappings = stack("depth_image_proc", image=image, source="fast")[1]
    assert remappings[next_to_image] == "depth/camera_info"


@pytest.mark.parametrize(("given", "size"), [({}, 60), ({"sync_queue_size": "90"}, 90)])
def test_queues_keep_images_until_their_depth_arrives(stack, given, size):
    rtabmap = stack("rtabmap", source="fast", **given)[0]
    assert (rtabmap["sync_queue_size"], rtabmap["topic_queue_size"]) == (size, size)
    assert rtabmap["approx_sync"] is False
    clouds = stack("depth_image_proc", source="fast", **given)[0]
    assert (clouds["exact_sync"], clouds["queue_size"]) == (True, size)


def test_images_of_a_best_effort_camera_are_received(stack):
    assert stack("rtabmap", source="fast")[0]["qos_image"] == 1
    rtabmap = stack("rtabmap", source="fast", reliability="best_effort")[0]
    assert (rtabmap["qos_image"], rtabmap["qos_camera_info"]) == (2, 1)
    clouds = stack("depth_image_proc", source="fast", reliability="best_effort", namespace="robot")[0]
    for topic in (IMAGE, "/robot/depth/image"):
        assert clouds[f"qos_overrides.{topic}.subscription.reliability"] == "best_effort"


def test_rtabmap_maps_every_keyframe_but_not_every_frame(stack):
    limits = "Rtabmap/DetectionRate", "RGBD/LinearUpdate", "RGBD/AngularUpdate"
    refined, fast = (stack("rtabmap", source=source)[0] for source in ("refined", "fast"))
    assert [refined[name] for name in limits] == ["0", "0", "0"]
    assert not set(limits) & set(fast)


def test_nvblox_gets_colours_only_in_an_encoding_that_it_accepts(stack):
    parameters, remappings = stack("nvblox")
    assert parameters["use_color"]
    assert parameters["decay_tsdf_rate_hz"] == 0.0
    depth = {"camera_0/depth/image": "refined/depth", "camera_0/depth/camera_info": "refined/camera_info"}
    color = {"camera_0/color/image": "refined/image", "camera_0/color/camera_info": "refined/camera_info"}
    assert remappings == {**depth, **color}
    parameters, remappings = stack("nvblox", source="fast")
    assert not parameters["use_color"]
    assert "decay_tsdf_rate_hz" not in parameters
    assert remappings == {
        "camera_0/depth/image": "depth/image",
        "camera_0/depth/camera_info": "depth/camera_info",
    }


@pytest.mark.parametrize(("source", "topic"), [("refined", "refined/points"), ("fast", "depth/points")])
def test_octomap_gets_clouds(stack, source, topic):
    assert stack("octomap", source=source)[1] == {"cloud_in": topic}


@pytest.mark.parametrize(
    ("name", "fixed", "base", "reach", "value"),
    [
        ("rtabmap", "odom_frame_id", "frame_id", "Grid/RangeMax", "3.5"),
        (
            "nvblox",
            "global_frame",
            "map_clearing_frame_id",
            "static_mapper.projective_integrator_max_integration_distance_m",
            3.5,
        ),
        ("octomap", "frame_id", "base_frame_id", "sensor_model.max_range", 3.5),
    ],
)
def test_frames_range_and_clock_reach_the_stack(stack, name, fixed, base, reach, value):
    given = {"map_frame": "world", "base_frame": "chassis", "max_range": "3.5", "use_sim_time": "1"}
    parameters = stack(name, **given)[0]
    assert (parameters[fixed], parameters[base], parameters[reach]) == ("world", "chassis", value)
    assert parameters["use_sim_time"] is True
    assert "use_sim_time" not in stack(name)[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stack", "slam", "it must be one of: rtabmap, nvblox, depth_image_proc, octomap"),
        ("source", "slow", "it must be one of: refined, fast"),
        ("reliability", "perhaps", "it must be one of: reliable, best_effort"),
        ("max_range", "far", "it must be a number"),
        ("sync_queue_size", "many", "it must be an integer"),
    ],
)
def test_invalid_arguments_are_errors_that_name_them(launch_file, name, value, message):
    with pytest.raises(ValueError, match=f"{name} is '{value}'; {message}"):
        launch_file.nodes(**{name: value})
