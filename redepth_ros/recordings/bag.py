"""A rosbag2 as a recording, read as a stream."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.bag_frames import BagFrames
from redepth_ros.recordings.bag_reader import decode, find_bag_files, header_stamp, open_reader
from redepth_ros.recordings.bag_topics import (
    CAMERA_INFO,
    COMPRESSED,
    IMAGE,
    ODOMETRY,
    POINTS,
    TF_TOPICS,
    Topic,
    choose_anchors,
    choose_calibration,
    choose_camera,
)
from redepth_ros.recordings.recording import Recording

__all__ = ["BagOptions", "open_bag"]

RATE_SAMPLES = 60


@dataclass(frozen=True)
class BagOptions:
    """What to read of a bag."""

    topic: str = ""
    """Image topic; empty chooses the only camera."""
    anchors: str = "auto"
    """auto, none, height, depth, points, or the name of a topic."""
    anchor_tolerance: float = 0.05
    """Largest distance between the stamps of an image and its anchors, seconds."""
    fixed_frame: str = ""
    """Frame that does not move, to compensate motion between cloud and image; empty for none."""
    poses: str = "auto"
    """World frame of the poses: auto (map or odom), none, or the name of a frame."""


def open_bag(path: Path, options: BagOptions | None = None) -> Recording:
    """Open a rosbag2: its folder, or a file of it (sqlite3 or mcap).

    Raises:
        ConfigError: the bag can't be read, or the topics that were asked for are missing.
    """
    options, paths = options or BagOptions(), find_bag_files(path)
    if not paths:
        raise ConfigError(f"{str(path)!r} is no rosbag2 (a folder with metadata.yaml, .mcap or .db3)")
    reader = open_reader(paths)
    try:
        topics = [_describe(reader, name) for name in sorted(reader.topics)]
        camera = choose_camera(topics, options.topic)
        info, info_fact = choose_calibration(topics, camera)
        has_tf = any(topic.name in TF_TOPICS and topic.count for topic in topics)
        anchors, anchor_fact = choose_anchors(topics, camera, options.anchors, has_tf)
        size, first_stamp = _first_image(reader, camera)
        stamps = _stamps(reader, camera.name)
        info_note = _judge_stamps(_stamps(reader, info.name)[:3], info.count) if info else ""
    finally:
        reader.close()
    odometry = [topic.name for topic in topics if topic.type == ODOMETRY and topic.count]
    frames = BagFrames(
        tuple(paths),
        camera,
        info,
        anchors,
        tuple(odometry[:1]) if not has_tf or options.poses in odometry else (),
        options.anchor_tolerance,
        options.fixed_frame,
        options.poses,
        has_tf,
    )
    facts = [
        ("topic", f"{camera.name} ({camera.encoding or camera.type}), {camera.count} messages"),
        ("frame_id", camera.frame_id or "none"),
        ("calibration", info_fact + (f" ({info_note})" if info_note else "")),
        ("anchors", anchor_fact),
        ("transforms", "tf" if has_tf else f"odometry {odometry[0]}" if odometry else "none"),
    ]
    return Recording(
        f"{camera.name} of the rosbag2 {path}",
        "bag",
        size,
        _rate(stamps, first_stamp),
        frames.read,
        count=camera.count,
        facts=tuple(facts),
        bag=tuple(paths),
    )


def _describe(reader: Any, name: str) -> Topic:
    """Return a topic with facts from its first message."""
    found = reader.topics[name]
    kind = found.msgtype or found.connections[0].msgtype
    topic = Topic(name, kind, found.msgcount)
    if kind not in (IMAGE, COMPRESSED, CAMERA_INFO, POINTS) or not found.msgcount:
        return topic
    with suppress(Exception):  # the first message may be damaged: the topic is then described by its name
        for connection, _, raw in reader.messages(connections=found.connections):
            message = reader.deserialize(raw, connection.msgtype)
            encoding = str(getattr(message, "encoding", getattr(message, "format", "")))
            size = (int(getattr(message, "height", 0)), int(getattr(message, "width", 0)))
            return Topic(name, kind, found.msgcount, str(message.header.frame_id), encoding, size)
    return topic


def _first_image(reader: Any, camera: Topic) -> tuple[tuple[int, int], int]:
    """Return size and stamp of the first image that can be decoded.

    Raises:
        ConfigError: none of the first can be.
    """
    reason = "there are no messages"
    connections = reader.topics[camera.name].connections
    try:
        for connection, _, raw in islice(reader.messages(connections=connections), RATE_SAMPLES):
            try:
                message = reader.deserialize(raw, connection.msgtype)
                height, width = decode(message).shape[:2]
            except Exception as error:
                reason = str(error)
                continue
            return (height, width), header_stamp(raw)
    except Exception as error:  # rosbags raises errors of SQLite, zstd, struct and its own
        reason = f"the bag can't be read any further: {error}"
    raise ConfigError(f"none of the first images of {camera.name} can be decoded: {reason}")


def _stamps(reader: Any, topic: str) -> list[int]:
    """Return the header stamps of the first images."""
    stamps: list[int] = []
    with suppress(Exception):
        for _, _, raw in reader.messages(connections=reader.topics[topic].connections):
            stamps.append(header_stamp(raw))
            if len(stamps) == RATE_SAMPLES:
                break
    return stamps


def _rate(stamps: list[int], first: int) -> float:
    steps = np.diff(np.array(stamps or [first], np.int64))
    steps = steps[steps > 0]
    return 1e9 / float(np.median(steps)) if len(steps) else 0.0


def _judge_stamps(stamps: list[int], count: int) -> str:
    """Return what is special about the stamps of a calibration; empty if each image has its own."""
    if count == 1:
        return "one message, used for all images"
    if stamps and stamps[0] == 0:
        return "its stamp is 0: the latest one is used"
    if len(stamps) > 1 and stamps[0] == stamps[1]:
        return "its stamp never changes: the latest one is used"
    return ""
