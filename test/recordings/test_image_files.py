"""Folders, lists and videos as recordings."""

import struct

import cv2
import numpy as np
import pytest
from bags import grey, number_of

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.open import open_recording
from redepth_ros.recordings.recording import RecordedFrame, Selection, UnreadableFrame


def write_images(folder, numbers, suffix="png"):
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number}.{suffix}"), grey(number))
    return folder


def test_a_folder_is_read_in_natural_order(tmp_path):
    recording = open_recording([write_images(tmp_path / "in", [10, 2, 1])])
    frames = list(recording.frames())
    assert [frame.name for frame in frames] == ["1", "2", "10"]
    assert [number_of(frame.image) for frame in frames] == [1, 2, 10]
    assert [frame.stamp for frame in frames] == [0, 100_000_000, 200_000_000]
    assert recording.count == 3
    assert recording.size == (24, 32)
    assert recording.rate == 10.0


def test_names_of_a_list_are_unique_and_keep_its_order(tmp_path):
    first, second = write_images(tmp_path / "a", [3, 1]), write_images(tmp_path / "b", [3])
    frames = list(open_recording([second / "3.png", first]).frames())
    assert [frame.name for frame in frames] == ["3", "1", "3-2"]


def test_one_damaged_image_is_named_and_the_others_are_read(tmp_path):
    folder = write_images(tmp_path / "in", [1, 2, 3])
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    frames = list(open_recording([folder]).read(Selection()))
    assert [type(frame) for frame in frames] == [RecordedFrame, UnreadableFrame, RecordedFrame]
    assert "2.png" in frames[1].reason
    assert frames[1].index == 1


def test_selection_takes_every_rate_and_range(tmp_path):
    recording = open_recording([write_images(tmp_path / "in", range(12))])

    def taken(**options):
        return [frame.index for frame in recording.read(Selection(**options))]

    assert taken(every=5) == [0, 5, 10]
    assert taken(rate=5.0) == [0, 2, 4, 6, 8, 10]
    assert taken(rate=4.0) == [0, 3, 5, 8, 10]
    assert taken(start=0.3, end=0.6) == [3, 4, 5, 6]
    assert taken(start=0.3, every=2, end=0.9) == [3, 5, 7, 9]
    assert taken(done={0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) == [10, 11]
    with pytest.raises(ConfigError, match="every is 0"):
        taken(every=0)


def test_depth_of_the_same_name_gives_anchors(tmp_path):
    folder = write_images(tmp_path / "in", [1, 2])
    depth = np.full((24, 32), 1500, np.uint16)
    (tmp_path / "depth").mkdir()
    cv2.imwrite(str(tmp_path / "depth" / "1.png"), depth)
    frames = list(open_recording([folder], depth_folder=tmp_path / "depth").frames())
    assert frames[0].anchors.depth[0] == pytest.approx(1.5)
    assert frames[1].anchors is None
    with pytest.raises(ConfigError, match="no depth"):
        open_recording([folder], depth_folder=folder.parent)


def test_nothing_to_read_says_what_can_be(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="neither images"):
        open_recording([tmp_path / "empty"])
    with pytest.raises(ConfigError, match="there is no"):
        open_recording([tmp_path / "missing"])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ConfigError, match="can't be read as a video"):
        open_recording([tmp_path / "text.mp4"])


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "video.mkv"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (64, 48))
    for number in range(10):
        writer.write(grey(number, 48, 64))
    writer.release()
    return path


def test_a_video_has_the_stamps_of_its_frames(video):
    recording = open_recording([video])
    frames = list(recording.frames())
    assert [number_of(frame.image) for frame in frames] == list(range(10))
    assert [frame.stamp for frame in frames] == [number * 50_000_000 for number in range(10)]
    assert recording.rate == pytest.approx(20.0)
    assert [frame.index for frame in recording.read(Selection(every=4))] == [0, 4, 8]


def set_frame_times(path, first_ticks):
    """Give all frames but the last of an mp4 file another duration; its length and its header's rate stay."""
    data = path.read_bytes()
    at = data.index(b"stts") + 4  # version, count of entries, and (frames, ticks) of each
    _, entries, count, ticks = struct.unpack(">IIII", data[at : at + 16])
    assert entries == 1
    last_ticks = count * ticks - (count - 1) * first_ticks
    table = struct.pack(">IIIIII", 0, 2, count - 1, first_ticks, 1, last_ticks)
    data = bytearray(data[:at] + table + data[at + 16 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stts"):
        place = data.index(box) - 4
        (size,) = struct.unpack(">I", data[place : place + 4])
        data[place : place + 4] = struct.pack(">I", size + 8)
    path.write_bytes(data)


def test_the_rate_of_a_video_is_that_of_its_frames_not_of_its_header(tmp_path):
    path = tmp_path / "video.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 20.0, (64, 48))
    for number in range(10):
        writer.write(grey(number, 48, 64))
    writer.release()
    set_frame_times(path, 64)  # of 10240 in a second
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 20.0
    recording = open_recording([path])
    assert recording.rate == pytest.approx(160.0)
    assert [frame.stamp for frame in recording.frames()] == [number * 6_250_000 for number in range(10)]


def test_a_truncated_video_is_reported(video):
    data = video.read_bytes()
    video.write_bytes(data[: int(0.6 * len(data))])
    frames = list(open_recording([video]).read(Selection()))
    assert isinstance(frames[0], RecordedFrame)
    assert 3 <= len(frames) < 10
