"""Bags: which topics, in which order, with what beside them."""

import dataclasses
import zlib

import cv2
import numpy as np
import pytest
from bags import (
    SECOND,
    camera_messages,
    grey,
    make_compressed,
    make_header,
    make_image,
    make_info,
    make_points,
    make_tf,
    number_of,
    write_bag,
)

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.bag import BagOptions, open_bag
from redepth_ros.recordings.recording import RecordedFrame, Selection

IDENTITY = (0, 0, 0, 1)


def frames_of(path, **options):
    return list(open_bag(path, BagOptions(**options)).read(Selection()))


@pytest.mark.parametrize(
    ("plugin", "compression"),
    [("sqlite3", None), ("sqlite3", "message"), ("sqlite3", "file"), ("mcap", None), ("mcap", "storage")],
)
def test_reads_every_storage(tmp_path, plugin, compression):
    path = write_bag(tmp_path / "bag", camera_messages(), plugin=plugin, compression=compression)
    recording = open_bag(path)
    frames = list(recording.frames())
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[2].stamp == SECOND + SECOND // 10
    assert frames[2].camera.fx == 50.0
    assert frames[2].frame_id == "camera"
    assert recording.rate == pytest.approx(20.0)
    assert recording.count == 5


def test_reads_a_bare_mcap(tmp_path):
    path = write_bag(tmp_path / "bag", camera_messages(), plugin="mcap", compression="storage")
    (path / "metadata.yaml").unlink()
    for one in (path, path / "bag.mcap"):
        assert len(list(open_bag(one).frames())) == 5


def test_reads_a_split_bag_in_order(tmp_path):
    folder = tmp_path / "split"
    folder.mkdir()
    messages = list(camera_messages(6))
    for number, part in enumerate((messages[:6], messages[6:])):
        written = write_bag(tmp_path / f"part_{number}", part, plugin="mcap")
        (written / f"part_{number}.mcap").rename(folder / f"split_{number}.mcap")
    assert [number_of(frame.image) for frame in open_bag(folder).frames()] == list(range(6))


@pytest.mark.parametrize("compression", [None, "storage"])
def test_reads_what_is_complete_of_a_truncated_mcap(tmp_path, compression):
    def with_noise():
        for topic, time, message in camera_messages(40):
            if topic.endswith("image_raw"):
                noise = np.random.default_rng(time).integers(0, 255, (240, 320, 3), np.uint8)
                message = make_image(noise, "rgb8", time - 5_000_000)
            yield topic, time, message

    path = write_bag(tmp_path / "bag", with_noise(), plugin="mcap", compression=compression)
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for one in (path, file):
        frames = frames_of(one)
        assert 10 <= sum(isinstance(frame, RecordedFrame) for frame in frames) < 40
        assert "truncated" in frames[-1].reason


def test_refuses_a_truncated_sqlite3(tmp_path):
    path = write_bag(tmp_path / "bag", camera_messages(100))
    file = path / "bag.db3"
    file.write_bytes(file.read_bytes()[: int(0.7 * file.stat().st_size)])
    with pytest.raises(ConfigError, match="can't be read as a rosbag2"):
        frames_of(path)


def test_depth_topics_are_no_cameras(tmp_path):
    depth = np.full((24, 32), 2000, np.uint16)
    messages = [
        ("/camera/aligned_depth/image_raw", SECOND, make_image(depth, "16UC1", SECOND)),
        (
            "/camera/depth/image_raw/compressedDepth",
            SECOND,
            make_compressed(depth, SECOND, format_="16UC1; compressedDepth png"),
        ),
        ("/camera/depth/compressed", SECOND, make_compressed(depth, SECOND, format_="16UC1; png compressed")),
        *camera_messages(),
    ]
    path = write_bag(tmp_path / "bag", messages)
    assert len(frames_of(path)) == 5
    with pytest.raises(ConfigError, match=r"is no camera but depth \(16UC1\)"):
        frames_of(path, topic="/camera/aligned_depth/image_raw")


def test_several_cameras_are_listed_and_one_must_be_named(tmp_path):
    messages = [*camera_messages(3), *camera_messages(3, topic="/rear/image_raw", frame_id="rear")]
    path = write_bag(tmp_path / "bag", messages)
    with pytest.raises(ConfigError, match=r"/front/image_raw, /rear/image_raw"):
        frames_of(path)
    assert [frame.frame_id for frame in frames_of(path, topic="/rear/image_raw")] == ["rear"] * 3
    with pytest.raises(ConfigError, match="no image topic /left"):
        frames_of(path, topic="/left")


def test_transports_of_one_camera_are_one_camera(tmp_path):
    messages = list(camera_messages(3))
    compressed = [
        (f"{topic}/compressed", time, make_compressed(grey(7), time)) for topic, time, _ in messages[::2]
    ]
    path = write_bag(tmp_path / "bag", [*messages, *compressed])
    assert [number_of(frame.image) for frame in frames_of(path)] == [0, 1, 2]
    named = frames_of(path, topic="/front/image_raw/compressed")
    assert [number_of(frame.image) for frame in named] == [7, 7, 7]
    assert named[0].camera is not None


def test_grey_cameras_do_not_displace_the_colour_camera(tmp_path):
    infra = make_image(np.zeros((24, 32), np.uint8), "mono8", SECOND, "infra")
    path = write_bag(tmp_path / "bag", [("/infra1/image_rect_raw", SECOND, infra), *camera_messages(2)])
    assert [frame.frame_id for frame in frames_of(path)] == ["camera"] * 2


def test_the_calibration_of_another_camera_is_never_used(tmp_path):
    other = ("/rear/camera_info", SECOND, make_info(24, 32, SECOND, "rear", focal=99.0))
    path = write_bag(tmp_path / "bag", [other, *camera_messages(3, info=False)])
    recording = open_bag(path)
    assert all(frame.camera is None for frame in recording.frames())
    assert "of other cameras (/rear/camera_info)" in dict(recording.facts)["calibration"]


def test_a_calibration_elsewhere_is_found_by_its_frame_id(tmp_path):
    info = ("/calibration/front_info", SECOND, make_info(24, 32, SECOND, "camera", focal=77.0))
    other = ("/rear/camera_info", SECOND, make_info(24, 32, SECOND, "rear"))
    path = write_bag(tmp_path / "bag", [other, info, *camera_messages(3, info=False)])
    assert [frame.camera.fx for frame in frames_of(path)] == [77.0] * 3


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        ([SECOND], "one message"),
        ([0, 0, 0], "stamp is 0"),
        ([7, 7, 7], "never changes"),
        ([10**10], "one message"),
    ],
)
def test_calibrations_without_own_stamps_are_used_and_said(tmp_path, stamps, said):
    infos = [
        ("/front/camera_info", (20 if stamp == 10**10 else 1) * SECOND, make_info(24, 32, stamp))
        for stamp in stamps
    ]
    path = write_bag(tmp_path / "bag", [*infos, *camera_messages(3, info=False)])
    recording = open_bag(path)
    assert [frame.camera.fx for frame in recording.frames()] == [50.0] * 3
    assert said in dict(recording.facts)["calibration"]


def test_one_undecodable_frame_is_reported_and_the_others_are_read(tmp_path):
    messages = list(camera_messages())
    broken = dataclasses.replace(messages[4][2], data=np.zeros(10, np.uint8))
    messages[4] = (messages[4][0], messages[4][1], broken)
    messages[6] = (messages[6][0], messages[6][1], ("sensor_msgs/msg/Image", b"\0\1\0\0\1\2\3"))
    frames = frames_of(write_bag(tmp_path / "bag", messages))
    assert [isinstance(frame, RecordedFrame) for frame in frames] == [True, True, False, False, True]
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert "truncated" in frames[2].reason


def test_the_rate_of_a_bag_is_that_of_its_images_not_of_its_duration(tmp_path):
    messages = list(camera_messages(6, info=False))
    for topic, time, message in camera_messages(6, info=False):  # after a pause of a minute
        message.header.stamp.sec += 60
        messages.append((topic, time + 60 * SECOND, message))
    assert open_bag(write_bag(tmp_path / "bag", messages)).rate == pytest.approx(20.0)


def test_stamps_that_repeat_or_go_back_are_reported(tmp_path):
    stamps = [SECOND, SECOND, 2 * SECOND, SECOND]
    messages = [
        ("/image", (10 + at) * SECOND, make_image(grey(at), "rgb8", stamp)) for at, stamp in enumerate(stamps)
    ]
    frames = frames_of(write_bag(tmp_path / "bag", messages))
    assert [number_of(frame.image) for frame in frames] == [0, 1, 2, 3]
    assert [" ".join(frame.warnings) for frame in frames] == [
        "",
        "its stamp repeats",
        "",
        "its stamp is before that of the frame before",
    ]


def test_a_registered_depth_topic_gives_anchors(tmp_path):
    depth = np.full((24, 32), 2500, np.uint16)
    messages = list(camera_messages())
    messages += [
        ("/front/depth", time + 1, make_image(depth, "16UC1", time - 5_000_000))
        for topic, time, _ in messages
        if topic.endswith("image_raw")
    ]
    path = write_bag(tmp_path / "bag", sorted(messages, key=lambda one: one[1]))
    assert [float(frame.anchors.depth[0]) for frame in frames_of(path)] == [2.5] * 5
    assert all(frame.anchors is None for frame in frames_of(path, anchors="none"))


def test_a_lidar_gives_anchors_through_tf(tmp_path):
    # The camera looks along the lidar's x axis, 0.5 m in front of it.
    rotation = (-0.5, 0.5, -0.5, 0.5)
    y, z = np.meshgrid(np.linspace(-0.5, 0.5, 11), np.linspace(-0.5, 0.5, 11))
    points = np.stack((np.full(y.size, 3.5), y.ravel(), z.ravel()), axis=1)
    messages = [("/tf_static", 0, make_tf(("lidar", "camera", 0, (0.5, 0, 0), rotation)))]
    messages += camera_messages(6)
    messages += [
        ("/points", SECOND + at * SECOND // 10, make_points(points, SECOND + at * SECOND // 10))
        for at in range(3)
    ]
    path = write_bag(tmp_path / "bag", sorted(messages, key=lambda one: one[1]))
    frames = frames_of(path, anchor_tolerance=0.02)
    # The lidar is half as fast as the camera, and each cloud serves one image.
    assert [frame.anchors is not None for frame in frames] == [True, False] * 3
    assert np.allclose(frames[0].anchors.depth, 3.0)
    assert len(frames[0].anchors) == 121


def test_missing_transforms_are_named(tmp_path):
    messages = [("/tf_static", 0, make_tf(("base", "lidar", 0, (0, 0, 0), IDENTITY)))]
    messages += [*camera_messages(2), ("/points", SECOND, make_points(np.ones((9, 3)), SECOND))]
    frame = frames_of(write_bag(tmp_path / "bag", messages))[0]
    assert frame.anchors is None
    assert "does not connect 'lidar' and 'camera'" in " ".join(frame.warnings)


def test_poses_come_from_tf(tmp_path):
    def tf(at):
        stamp = SECOND + at * SECOND // 10
        return ("/tf", stamp, make_tf(("odom", "base", stamp, (at, 0, 0), IDENTITY)))

    messages = [*camera_messages(), *(tf(at) for at in range(3))]
    messages.append(("/tf_static", 3 * SECOND, make_tf(("base", "camera", 0, (0, 0, 1), IDENTITY))))
    path = write_bag(tmp_path / "bag", sorted(messages, key=lambda one: one[1]))
    frames = frames_of(path)
    assert [frame.pose[0, 3] for frame in frames] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert frames[0].pose[2, 3] == 1.0
    assert frames_of(path, poses="none")[0].pose is None


def test_a_pose_is_not_extrapolated(tmp_path):
    messages = [*camera_messages()]
    messages.append(("/tf", SECOND, make_tf(("odom", "camera", SECOND, (0, 0, 0), IDENTITY))))
    messages.append(("/tf", SECOND, make_tf(("odom", "camera", SECOND + SECOND // 10, (1, 0, 0), IDENTITY))))
    frames = frames_of(write_bag(tmp_path / "bag", messages))
    assert [frame.pose is not None for frame in frames] == [True, True, True, False, False]
    assert "extrapolated" in " ".join(frames[4].warnings)


def test_a_bag_without_a_camera_lists_its_topics(tmp_path):
    header = make_header(0, "x")
    assert header.frame_id == "x"
    path = write_bag(tmp_path / "bag", [("/points", SECOND, make_points(np.ones((3, 3)), SECOND))])
    with pytest.raises(ConfigError, match=r"no image topic of a camera.*/points"):
        frames_of(path)


def test_what_is_no_bag_is_refused(tmp_path):
    (tmp_path / "bag.mcap").write_bytes(b"no bag")
    with pytest.raises(ConfigError, match="can't be read as a rosbag2"):
        open_bag(tmp_path / "bag.mcap")


def test_an_image_of_another_size_has_no_calibration_and_says_so(tmp_path):
    messages = list(camera_messages(2))
    stamp = 2 * SECOND
    messages.append(("/front/image_raw", stamp, make_image(grey(2, 12, 16), "rgb8", stamp)))
    messages.append(("/front/camera_info", stamp, make_info(24, 32, stamp)))
    frames = frames_of(write_bag(tmp_path / "bag", messages))
    assert [frame.camera is not None for frame in frames] == [True, True, False]
    assert "for 32x24 pixels, but the image has 16x12" in " ".join(frames[2].warnings)


def test_anchors_that_stop_are_reported(tmp_path):
    messages = list(camera_messages(4, period=SECOND))
    depth = np.full((24, 32), 2500, np.uint16)
    messages += [("/front/depth", SECOND + 1, make_image(depth, "16UC1", SECOND))]
    frames = frames_of(write_bag(tmp_path / "bag", sorted(messages, key=lambda one: one[1])))
    assert [frame.anchors is not None for frame in frames] == [True, False, False, False]
    assert "has no message within 1 s" in " ".join(frames[3].warnings)


def damaged(message, data=b"\0"):
    return (message.__msgtype__, data)


def test_a_damaged_calibration_or_measurement_does_not_end_the_bag(tmp_path):
    messages = list(camera_messages(4))
    messages[1] = (*messages[1][:2], damaged(messages[1][2]))
    cloud = make_points(np.array([(0.0, 0.0, 2.0)]), SECOND + SECOND // 10, "camera")
    messages += [("/lidar", SECOND, damaged(cloud)), ("/lidar", SECOND + SECOND // 10, cloud)]
    messages.sort(key=lambda one: one[1])
    path = write_bag(tmp_path / "bag", messages)
    frames = frames_of(path, anchors="/lidar", anchor_tolerance=0.01)
    assert [type(frame) for frame in frames] == [RecordedFrame] * 4
    assert [frame.camera.fx for frame in frames] == [50.0] * 4
    assert [len(frame.anchors) if frame.anchors else 0 for frame in frames] == [0, 0, 1, 0]


def test_a_bag_whose_images_are_damaged_on_the_disk_is_refused(tmp_path):
    file = write_bag(tmp_path / "bag", camera_messages(), plugin="mcap", compression="storage") / "bag.mcap"
    data = bytearray(file.read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd")  # the first block of zstd
    data[at : at + 40] = bytes(40)
    file.write_bytes(data)
    with pytest.raises(ConfigError, match="can't be read"):
        frames_of(file)


def test_a_compressed_image_of_too_many_pixels_takes_no_memory(tmp_path):
    data = cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes()
    huge = data[:16] + (15_000).to_bytes(4, "big") * 2 + data[24:29]
    huge += zlib.crc32(huge[12:29]).to_bytes(4, "big") + data[33:]
    good = make_compressed(grey(1), SECOND)
    bomb = dataclasses.replace(good, data=np.frombuffer(huge, np.uint8))
    topic = "/front/compressed"
    frames = frames_of(write_bag(tmp_path / "bag", [(topic, SECOND, good), (topic, SECOND + 1, bomb)]))
    assert isinstance(frames[0], RecordedFrame)
    assert "image is too large: Image size (225000000 pixels)" in frames[1].reason
