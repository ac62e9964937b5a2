"""The player as a program."""

import sys
from pathlib import Path

import numpy as np
from graph import Listener
from sensor_msgs.msg import CameraInfo, Image

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
from bags import camera_messages, write_bag


def test_a_bag_that_is_played_once_arrives_whole_but_for_what_can_not_be_decoded(tmp_path, start, ros):
    messages = list(camera_messages(12))
    broken = messages[6][2]
    broken.data = np.zeros(5, np.uint8)  # rows are missing
    write_bag(tmp_path / "bag", messages)
    listener = Listener("listener", "/player")
    # Slow enough for a reader that is late: the player keeps its last five messages for it.
    playing = start("camera_player", {"path": tmp_path / "bag", "loop": False, "rate": 5.0}, "/player")
    assert listener.until(lambda: "waiting up to 10 s for a subscriber of /player/image" in playing.output())
    listener.listen(CameraInfo, "camera_info")
    listener.listen(Image, "image")
    assert listener.until(lambda: playing.popen.poll() is not None)
    assert playing.wait() == 0
    assert listener.until(lambda: len(listener.received["image"]) == 11)
    assert "played all 11 frames, 1 could not be decoded" in playing.output()
    assert "Traceback" not in playing.output()
    listener.close()


def test_a_path_that_does_not_exist_is_named(start, ros):
    failing = start("camera_player", {"path": "/no/such/path"})
    assert failing.wait() == 1
    assert "path is '/no/such/path', which does not exist" in failing.output()
    assert "Traceback" not in failing.output()
