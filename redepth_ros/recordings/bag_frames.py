"""One pass over a bag: each image with its calibration, anchors and pose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, ImageError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.recordings.bag_anchors import BagAnchors
from redepth_ros.recordings.bag_reader import decode, header_stamp, open_reader
from redepth_ros.recordings.bag_topics import TF_TOPICS, Topic
from redepth_ros.recordings.messages.calibration import camera_from_fields
from redepth_ros.recordings.recording import RecordedFrame, Selection, UnreadableFrame
from redepth_ros.recordings.transforms import TransformBuffer

__all__ = ["BagFrames"]

LOOK_AHEAD = 1_000_000_000
"""Nanoseconds of the recording by which what belongs to an image may be recorded after it."""
MAX_WAITING = 120
"""Images that wait for what belongs to them."""
KEPT = 400
"""Calibrations that are kept."""
CALIBRATION_TOLERANCE = 10_000_000
"""Nanoseconds between an image and the camera_info with its own stamp."""
WORLD_FRAMES = ("map", "odom")


@dataclass(frozen=True)
class BagFrames:
    """The topics to read; `read` makes a pass over them."""

    paths: tuple[Path, ...]
    camera: Topic
    info: Topic | None
    anchors: Topic | None
    odometry: tuple[str, ...]
    """Topics whose poses are taken for transforms."""
    anchor_tolerance: float
    fixed_frame: str
    poses: str
    has_tf: bool

    def read(self, selection: Selection) -> Iterator[RecordedFrame | UnreadableFrame]:
        """Yield the selected frames in the order of the recording."""
        reader = open_reader(self.paths)
        try:
            yield from _Pass(self, reader, selection).frames()
        finally:
            reader.close()


@dataclass(frozen=True)
class _Waiting:
    """An image that was not decoded yet."""

    index: int
    stamp: int
    recorded_at: int
    raw: bytes
    type: str
    warnings: tuple[str, ...]


class _Pass:
    """State of one pass."""

    def __init__(self, topics: BagFrames, reader: Any, selection: Selection) -> None:
        self._topics, self._reader, self._picker = topics, reader, selection.picker()
        self._transforms = TransformBuffer()
        self._waiting: deque[_Waiting] = deque()
        self._infos: deque[tuple[int, int, Any]] = deque(maxlen=KEPT)  # stamp, recorded at, message
        self._first_info: Any = None
        self._anchors: BagAnchors | None = None
        if topics.anchors is not None:
            self._anchors = BagAnchors(
                topics.anchors.name,
                topics.anchor_tolerance,
                topics.fixed_frame,
                reader.deserialize,
                self._transforms,
            )
        self._index = 0
        self._last_stamp: int | None = None

    def frames(self) -> Iterator[RecordedFrame | UnreadableFrame]:
        topics = self._topics
        names = {topics.camera.name, *topics.odometry}
        names |= {one.name for one in (topics.info, topics.anchors) if one}
        names |= set(TF_TOPICS) if topics.has_tf else set()
        wait = LOOK_AHEAD if len(names) > 1 else 0
        connections = [one for one in self._reader.connections if one.topic in names]
        try:
            self._read_ahead()
            for connection, recorded_at, raw in self._reader.messages(connections=connections):
                if connection.topic == topics.camera.name:
                    self._add_image(recorded_at, raw, connection.msgtype)
                    if self._last_stamp is not None and self._picker.is_over(self._last_stamp):
                        break
                else:
                    self._add_other(connection, recorded_at, raw)
                while self._waiting and (
                    recorded_at - self._waiting[0].recorded_at >= wait or len(self._waiting) > MAX_WAITING
                ):
                    yield self._finish(self._waiting.popleft())
        except Exception as error:  # rosbags raises errors of SQLite, zstd, struct and its own
            yield from self._finish_all()
            yield UnreadableFrame(-1, self._topics.camera.name, f"the bag can't be read any further: {error}")
            return
        yield from self._finish_all()
        if self._truncated():
            yield UnreadableFrame(-1, self._topics.camera.name, "the bag is truncated: its end is missing")

    def _finish_all(self) -> Iterator[RecordedFrame | UnreadableFrame]:
        while self._waiting:
            yield self._finish(self._waiting.popleft())

    def _truncated(self) -> bool:
        """Return whether a file of the bag had no end, see `truncated_mcap`."""
        found: list[Any] = []
        for reader in self._reader.readers:
            storage = reader.storage
            found += getattr(storage, "storages", [storage])
        return any(getattr(one, "truncated_at", None) is not None for one in found)

    def _read_ahead(self) -> None:
        """Read the static transforms and the first calibration, wherever they are in the bag."""
        static = [one for one in self._reader.connections if one.topic == "/tf_static"]
        if static and self._topics.has_tf:
            for connection, recorded_at, raw in self._reader.messages(connections=static):
                self._add_other(connection, recorded_at, raw)
        info = self._topics.info
        if info is not None:
            for connection, _, raw in self._reader.messages(
                connections=[one for one in self._reader.connections if one.topic == info.name]
            ):
                with suppress(Exception):  # one damaged message; its successors serve
                    self._first_info = self._reader.deserialize(raw, connection.msgtype)
                    break

    def _add_image(self, recorded_at: int, raw: bytes, kind: str) -> None:
        index, self._index = self._index, self._index + 1
        try:
            stamp = header_stamp(raw)
        except Exception:  # struct.error or IndexError: reported when it is decoded
            stamp = recorded_at
        warnings: tuple[str, ...] = ()
        if self._last_stamp is not None and stamp <= self._last_stamp:
            what = "repeats" if stamp == self._last_stamp else "is before that of the frame before"
            warnings = (f"its stamp {what}",)
        self._last_stamp = stamp
        if self._picker.is_wanted(index, stamp):
            self._waiting.append(_Waiting(index, stamp, recorded_at, bytes(raw), kind, warnings))

    def _add_other(self, connection: Any, recorded_at: int, raw: bytes) -> None:
        topics = self._topics
        try:
            if self._anchors is not None and connection.topic == self._anchors.topic:
                self._anchors.add(raw, connection.msgtype)
                return
            message = self._reader.deserialize(raw, connection.msgtype)
        except Exception:  # one damaged message; its neighbours serve
            return
        if topics.info is not None and connection.topic == topics.info.name:
            self._infos.append((header_stamp(raw), recorded_at, message))
            return
        if connection.topic in topics.odometry:
            pose = message.pose.pose
            self._add_transform(
                message.header, message.child_frame_id, pose.position, pose.orientation, False
            )
            return
        for one in message.transforms:
            static = connection.topic == "/tf_static"
            transform = one.transform
            self._add_transform(
                one.header, one.child_frame_id, transform.translation, transform.rotation, static
            )

    def _add_transform(self, header: Any, child: str, t: Any, q: Any, static: bool) -> None:
        time = int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
        self._transforms.add(
            header.frame_id, child, time, (t.x, t.y, t.z), (q.x, q.y, q.z, q.w), static=static
        )

    def _finish(self, waiting: _Waiting) -> RecordedFrame | UnreadableFrame:
        """Decode an image and what belongs to it."""
        name = f"{waiting.index:06d}"
        try:
            message = self._reader.deserialize(waiting.raw, waiting.type)
            image = decode(message)
        except ImageError as error:
            return UnreadableFrame(waiting.index, name, str(error))
        except Exception as error:  # rosbags and struct raise many kinds for damaged bytes
            return UnreadableFrame(waiting.index, name, f"the message is damaged: {error!r}")
        frame_id, warnings = str(message.header.frame_id), list(waiting.warnings)
        height, width = image.shape[:2]
        info, camera = self._calibration(waiting, height, width, warnings)
        anchors: Anchors | None = None
        if self._anchors is not None:
            anchors = self._anchors.find(waiting.stamp, frame_id, height, width, camera, warnings)
        pose = self._pose(waiting.stamp, frame_id, warnings)
        return RecordedFrame(
            waiting.index,
            waiting.stamp,
            name,
            np.ascontiguousarray(image),
            camera,
            info,
            frame_id,
            waiting.recorded_at,
            anchors,
            tuple(warnings),
            pose,
        )

    def _calibration(
        self, waiting: _Waiting, height: int, width: int, warnings: list[str]
    ) -> tuple[Any, PinholeCamera | None]:
        """Return the calibration of the image's stamp, or else the latest one recorded before it."""
        info = min(self._infos, key=lambda one: abs(one[0] - waiting.stamp), default=None)
        if info is None or abs(info[0] - waiting.stamp) > CALIBRATION_TOLERANCE:
            before = [one for one in self._infos if one[1] <= waiting.recorded_at]
            info = before[-1] if before else None
        message = info[2] if info is not None else self._first_info
        if message is None:
            return None, None
        try:
            return message, camera_from_fields(message, height, width)
        except ConfigError as error:
            warnings.append(f"calibration is not used: {error}")
            return None, None

    def _pose(self, stamp: int, frame_id: str, warnings: list[str]) -> NDArray[np.float64] | None:
        """Return the pose of the camera in the world, (4, 4)."""
        wanted = self._topics.poses
        if wanted == "none" or not self._transforms:
            return None
        world = wanted
        if wanted == "auto":
            world = next((one for one in WORLD_FRAMES if one in self._transforms.frames), "")
        if not world:
            return None
        try:
            return self._transforms.lookup(world, frame_id, stamp)
        except AnchorError as error:
            warnings.append(f"no pose: {error}")
            return None
