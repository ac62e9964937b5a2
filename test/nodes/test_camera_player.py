"""The camera player, in this process and as a program."""

import math

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import CAMERA, Graph, header_at, sample_image
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.core.errors import ConfigError
from redepth_ros.nodes import camera_player
from redepth_ros.nodes.camera_player import CameraPlayer
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.recordings.recording import RecordedFrame, Recording, UnreadableFrame
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_from_msg


@pytest.fixture
def play(ros, monkeypatch):
    """Play frames with some parameters; return the graph, whose first node is the player."""
    graphs = []

    def play(frames, **parameters):
        read = lambda selection: iter(frames)  # noqa: E731
        recording = Recording("three test images", "images", (24, 32), 40.0, read)
        monkeypatch.setattr(camera_player, "open_player_input", lambda path, topic: recording)
        settings = PlayerSettings(**parameters)
        monkeypatch.setattr(camera_player.Parameters, "settings", lambda self: settings)
        player = CameraPlayer()
        graphs.append(Graph(player))
        graphs[-1].listen(player, Image, "image")
        graphs[-1].listen(player, CameraInfo, "camera_info")
        return graphs[-1]

    yield play
    for graph in graphs:
        graph.close()


def frames(count=3, **options):
    return [
        RecordedFrame(number, number, str(number), np.full((24, 32, 3), 10 * number, np.uint8), **options)
        for number in range(count)
    ]


def received(graph, count):
    """Return images and camera_infos once there are so many."""
    images, infos = graph.received["image"], graph.received["camera_info"]
    assert graph.until(lambda: len(images) >= count and len(infos) >= count)
    return images, infos


def test_images_and_camera_info_have_one_stamp(play):
    images, infos = received(play(frames()), 3)
    for image, info in zip(images[:3], infos[:3], strict=True):
        assert image.header == info.header
        assert (image.encoding, image.header.frame_id) == ("rgb8", "camera_optical_frame")
    values = [int(image_from_msg(image).mean()) for image in images[:3]]
    assert values == [0, 10, 20]


def test_a_recording_loops_by_default_and_ends_otherwise(play):
    graph = play(frames(2))
    received(graph, 5)
    assert not graph.nodes[0].finished
    graph = play(frames(2), loop=False)
    assert graph.until(lambda: graph.nodes[0].finished)
    assert graph.nodes[0].played == 2


def test_a_clock_that_stands_still_does_not_stop_the_images(play, given):
    """A simulation that is paused, or has not begun."""
    given(use_sim_time=True)
    graph = play(frames())
    assert graph.until(lambda: graph.nodes[0].played > 2)
    assert graph.nodes[0].get_clock().now().nanoseconds == 0


def test_a_frame_that_can_not_be_decoded_is_left_out(play):
    graph = play([*frames(1), UnreadableFrame(1, "1", "truncated"), *frames(2)[1:]], loop=False)
    assert graph.until(lambda: graph.nodes[0].finished)
    assert (graph.nodes[0].played, graph.nodes[0].unreadable) == (2, 1)


def test_a_recording_that_is_played_once_waits_for_a_subscriber(ros, tmp_path, monkeypatch):
    for number in range(3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), sample_image())
    settings = PlayerSettings(path=str(tmp_path), loop=False, rate=100.0)
    monkeypatch.setattr(camera_player.Parameters, "settings", lambda self: settings)
    player = CameraPlayer()
    graph = Graph(player)
    assert not graph.until(lambda: player.played, 0.3)
    graph.listen(player, Image, "image")
    assert graph.until(lambda: player.finished)
    assert len(graph.received["image"]) == 3
    graph.close()


def test_without_a_subscriber_the_player_says_that_it_waits_and_that_it_gives_up(ros, monkeypatch, capfd):
    recording = Recording("images", "images", (24, 32), 100.0, lambda selection: iter(frames(2)))
    monkeypatch.setattr(camera_player, "open_player_input", lambda path, topic: recording)
    monkeypatch.setattr(camera_player, "SUBSCRIBER_TIMEOUT", 0.3)
    monkeypatch.setattr(camera_player.Parameters, "settings", lambda self: PlayerSettings(loop=False))
    graph = Graph(CameraPlayer())
    assert graph.until(lambda: graph.nodes[0].finished)
    assert graph.nodes[0].played == 2
    graph.close()
    log = capfd.readouterr().err
    assert log.count("waiting up to 0.3 s for a subscriber of") == 1
    assert log.count("nothing receives its frames") == 1


def test_an_empty_recording_ends(play):
    graph = play([])
    assert graph.until(lambda: graph.nodes[0].finished)


@pytest.mark.parametrize(
    "calibration", [{"camera": CAMERA}, {"camera_info": camera_to_msg(CAMERA, header_at(1.0))}]
)
def test_the_calibration_of_the_recording_is_published(play, calibration):
    _, infos = received(play(frames(**calibration, frame_id="front")), 1)
    assert (infos[0].k[0], infos[0].k[4], infos[0].header.frame_id) == (CAMERA.fx, CAMERA.fy, "front")


def test_without_a_calibration_a_field_of_view_is_assumed(play):
    _, infos = received(play(frames(), horizontal_fov=90.0, frame_id="mine"), 1)
    assert infos[0].k[0] == pytest.approx(16.0 / math.tan(math.radians(45.0)))
    assert (infos[0].k[2], infos[0].k[5]) == (15.5, 11.5)
    assert infos[0].header.frame_id == "mine"


def test_the_rate_is_that_of_the_recording_or_of_the_parameter(play):
    player = play(frames()).nodes[0]
    assert player._timer.timer_period_ns == 25_000_000
    player._change_settings(PlayerSettings(rate=10.0))
    assert player._timer.timer_period_ns == 100_000_000


def test_a_program_that_can_not_play_ends_with_a_reason(monkeypatch, capfd):
    def fail(*_):
        raise ConfigError("path is 'nowhere', which does not exist")

    monkeypatch.setattr(camera_player, "CameraPlayer", fail)
    monkeypatch.setattr(rclpy, "init", lambda args: None)
    monkeypatch.setattr(rclpy, "try_shutdown", lambda: None)
    with pytest.raises(SystemExit) as exit_info:
        camera_player.main([])
    assert exit_info.value.code == 1
    assert "path is 'nowhere'" in capfd.readouterr().err


def test_a_folder_of_images_is_played(ros, tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "one.png"), sample_image()[..., ::-1])
    monkeypatch.setattr(
        camera_player.Parameters, "settings", lambda self: PlayerSettings(path=str(tmp_path), loop=False)
    )
    player = CameraPlayer()
    graph = Graph(player)
    graph.listen(player, Image, "image")
    assert graph.until(lambda: graph.received["image"])
    np.testing.assert_array_equal(image_from_msg(graph.received["image"][0]), sample_image())
    graph.close()
