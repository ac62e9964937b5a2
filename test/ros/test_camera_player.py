"""The player as a program."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
from bags import camera_messages, write_bag


def test_the_player_plays_a_bag_to_its_end_and_names_a_path_that_does_not_exist(tmp_path, start, ros):
    write_bag(tmp_path / "bag", camera_messages())
    playing = start("camera_player", {"path": tmp_path / "bag", "loop": False, "rate": 50.0})
    failing = start("camera_player", {"path": "/no/such/path"})
    assert playing.wait() == 0
    assert "played all 5 frames" in playing.output()
    assert failing.wait() == 1
    assert "path is '/no/such/path', which does not exist" in failing.output()
    assert "Traceback" not in playing.output() + failing.output()
