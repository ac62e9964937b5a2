"""Footage from every kind of source, and the player as a program."""

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.ros.streams.footage import PHOTOGRAPHS, open_footage


def frame(number, height=48, width=64):
    """Return an image whose grey value encodes its number."""
    return np.full((height, width, 3), 20 * number + 10, np.uint8)


def numbers(footage):
    return [round((float(shot.image.mean()) - 10) / 20) for shot in footage.shots()]


def write_bag(path, plugin, compressed=False):
    """Write five images with their camera_info, as rosbag2 records them."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    kinds = store.types
    image_type = "sensor_msgs/msg/CompressedImage" if compressed else "sensor_msgs/msg/Image"
    topic = "/front/image/compressed" if compressed else "/front/image_raw"
    with Writer(path, version=8, storage_plugin=plugin) as bag:
        images = bag.add_connection(topic, image_type, typestore=store)
        infos = bag.add_connection("/front/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store)
        for number in range(5):
            at = 1_000_000_000 + number * 50_000_000
            stamp = kinds["builtin_interfaces/msg/Time"](1, number * 50_000_000)
            header = kinds["std_msgs/msg/Header"](stamp, "front_optical")
            image = frame(number)
            if compressed:
                data = cv2.imencode(".png", image)[1].reshape(-1)
                message = kinds[image_type](header, "png", data)
            else:
                message = kinds[image_type](header, 48, 64, "bgr8", 0, 192, image.reshape(-1))
            region = kinds["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
            k = np.array([70.0, 0, 31, 0, 71.0, 23, 0, 0, 1])
            p = np.array([70.0, 0, 31, 0, 0, 71.0, 23, 0, 0, 0, 1, 0])
            info = kinds["sensor_msgs/msg/CameraInfo"](
                header, 48, 64, "plumb_bob", np.zeros(5), k, np.eye(3).reshape(-1), p, 0, 0, region
            )
            bag.write(images, at, store.serialize_cdr(message, image_type))
            bag.write(infos, at, store.serialize_cdr(info, "sensor_msgs/msg/CameraInfo"))


def test_an_empty_path_plays_photographs():
    shots = list(open_footage("").shots())
    assert len(shots) == len(PHOTOGRAPHS)
    assert all(shot.image.ndim == 3 and shot.image.dtype == np.uint8 for shot in shots)
    assert isinstance(shots[0].calibration, PinholeCamera)
    assert shots[0].image.shape == (500, 741, 3)


def test_a_folder_is_played_in_the_order_of_its_names(tmp_path):
    for number, suffix in enumerate((".png", ".jpg", ".bmp", ".tif")):
        cv2.imwrite(str(tmp_path / f"{number}{suffix}"), frame(number))
    (tmp_path / "notes.txt").write_text("no image")
    assert numbers(open_footage(str(tmp_path))) == [0, 1, 2, 3]


def test_colours_are_rgb(tmp_path):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    assert next(iter(open_footage(str(tmp_path)).shots())).image[0, 0].tolist() == [255, 0, 0]


def test_a_video_has_its_own_rate(tmp_path):
    path = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 12.5, (64, 48))
    for number in range(6):
        writer.write(frame(number))
    writer.release()
    footage = open_footage(str(path))
    assert footage.rate == pytest.approx(12.5)
    assert numbers(footage) == [0, 1, 2, 3, 4, 5]
    assert numbers(footage) == [0, 1, 2, 3, 4, 5], "a second call starts again"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_rosbag2_is_played_with_its_calibration(tmp_path, plugin, compressed):
    write_bag(tmp_path / "bag", plugin, compressed)
    footage = open_footage(str(tmp_path / "bag"))
    assert footage.rate == pytest.approx(20.0, rel=0.01)
    assert numbers(footage) == [0, 1, 2, 3, 4]
    shot = next(iter(footage.shots()))
    assert shot.frame_id == "front_optical"
    assert shot.calibration.k[0] == 70.0


def test_a_path_that_can_not_be_played_is_an_error_with_the_remedy(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    write_bag(tmp_path / "bag", StoragePlugin.MCAP)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "metadata.yaml").write_text("rosbag2_bagfile_information: 5")
    for path, said in (
        ("/no/such/path", "does not exist"),
        (tmp_path / "empty", "a folder with neither images"),
        (tmp_path / "text.mp4", "OpenCV can't read as a video"),
        (next((tmp_path / "bag").glob("*.mcap")), "name its folder"),
        (tmp_path / "broken", "can't be read as a rosbag2"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            open_footage(str(path))
        assert str(path) in str(caught.value)
    with pytest.raises(ConfigError, match=r"no image topic /back.*/front/image_raw"):
        open_footage(str(tmp_path / "bag"), "/back")
    (tmp_path / "empty" / "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"bad\.png can't be decoded"):
        list(open_footage(str(tmp_path / "empty")).shots())


def test_the_player_plays_a_bag_to_its_end_and_names_a_path_that_does_not_exist(tmp_path, start, ros):
    write_bag(tmp_path / "bag", StoragePlugin.SQLITE3)
    parameters = {"path": tmp_path / "bag", "loop": False, "rate": 50.0}
    playing, failing = start("camera_player", parameters), start("camera_player", {"path": "/no/such/path"})
    assert playing.wait() == 0
    assert "played all 5 frames" in playing.output()
    assert failing.wait() == 1
    assert "path is '/no/such/path', which does not exist" in failing.output()
    assert "Traceback" not in playing.output() + failing.output()
