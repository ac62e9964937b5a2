"""Damaged bags, and bags with damaged messages."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.harness import FLOATS, bytes_like, decode, slow

sys.path.insert(0, str(Path(__file__).parents[1] / "recordings"))
from bags import (
    SECOND,
    STORE,
    camera_messages,
    make_compressed,
    make_odometry,
    make_points,
    make_tf,
    write_bag,
)

from redepth_ros.recordings.bag import BagOptions, open_bag
from redepth_ros.recordings.raw_bag import read_raw_messages, read_raw_topics
from redepth_ros.recordings.recording import RecordedFrame, Selection

POINTS = np.random.default_rng(0).uniform((-1, -1, 1), (1, 1, 5), (40, 3))
PERIOD = SECOND // 20


def make_messages(numbers=(0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0)):
    """All kinds of topics that are read, (topic, time, message)."""
    found = list(camera_messages(3))
    for number in range(3):
        stamp = SECOND + number * PERIOD
        found.append(("/lidar", stamp, make_points(POINTS, stamp)))
        found.append(("/odom", stamp, make_odometry(stamp, numbers[:3], numbers[3:], "camera")))
        found.append(("/tf", stamp, make_tf(("odom", "camera", stamp, numbers[:3], numbers[3:]))))
        found.append(
            ("/rear/compressed", stamp, make_compressed(np.zeros((4, 4, 3), np.uint8), stamp, "rear"))
        )
    found.append(("/tf_static", SECOND, make_tf(("camera", "lidar", SECOND, numbers[:3], numbers[3:]))))
    return sorted(found, key=lambda one: one[1])


MESSAGES = make_messages()
RAW = [
    (topic, time, message.__msgtype__, bytes(STORE.serialize_cdr(message, message.__msgtype__)))
    for topic, time, message in MESSAGES
]
OPTIONS = [
    BagOptions("/front/image_raw"),
    BagOptions("/front/image_raw", anchors="points", fixed_frame="odom", anchor_tolerance=10.0),
    BagOptions("/front/image_raw", anchors="points", poses="/odom"),
    BagOptions("/rear/compressed", anchors="none"),
]
options = st.sampled_from(OPTIONS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def bags(folder):
    """Files of valid bags: name to bytes."""
    found = []
    for plugin, compression in (
        ("sqlite3", None),
        ("sqlite3", "message"),
        ("mcap", None),
        ("mcap", "storage"),
    ):
        path = write_bag(folder / f"{plugin}_{compression}", MESSAGES, plugin=plugin, compression=compression)
        found.append({file.name: file.read_bytes() for file in sorted(path.iterdir())})
    return found


def read_all(recording):
    return list(recording.read(Selection()))


def check_bag(path, chosen):
    recording = decode(open_bag, path, chosen)
    if recording is None:
        return
    frames = decode(read_all, recording)
    assert frames is not None
    for frame in frames:
        if isinstance(frame, RecordedFrame):
            assert frame.image.dtype == np.uint8
            assert frame.pose is None or np.isfinite(frame.pose).all()
            assert frame.camera is None or frame.camera.rays().isfinite().all()
        else:
            assert frame.reason
    topics = decode(read_raw_topics, recording.bag)
    decode(list, read_raw_messages(recording.bag, [topic["name"] for topic in topics], 0))


@slow(2)
@given(st.data())
def test_damaged_bags(folder, bags, data):
    files = data.draw(st.sampled_from(bags))
    path = folder / "damaged"
    path.mkdir(exist_ok=True)
    for file in path.iterdir():
        file.unlink()
    damaged = data.draw(st.sampled_from(sorted(files)))
    for name, content in files.items():
        (path / name).write_bytes(data.draw(bytes_like(content)) if name == damaged else content)
    check_bag(path if data.draw(st.booleans()) else path / min(files), data.draw(options))


def write_raw(path, messages):
    if path.exists():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    return write_bag(
        path, [(topic, time, (kind, content)) for topic, time, kind, content in messages], plugin="mcap"
    )


@slow(4)
@given(st.data())
def test_damaged_messages(folder, data):
    messages = [
        (topic, time, kind, data.draw(bytes_like(content)) if data.draw(st.integers(0, 3)) == 0 else content)
        for topic, time, kind, content in RAW
    ]
    check_bag(write_raw(folder / "messages", messages), data.draw(options))


@slow(4)
@given(st.lists(FLOATS, min_size=7, max_size=7), options)
def test_transforms_and_poses_of_any_numbers(folder, numbers, chosen):
    messages = [
        (topic, time, message.__msgtype__, bytes(STORE.serialize_cdr(message, message.__msgtype__)))
        for topic, time, message in make_messages(numbers)
    ]
    check_bag(write_raw(folder / "poses", messages), chosen)
