"""Format bag: a rosbag2 in mcap with the topics of the input and those of the nodes."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import ExportError
from redepth_ros.exports.frames import DepthFrame, RefinedFrame

__all__ = ["BagExporter", "RawMessages", "RawTopic"]

PART_BYTES = 400_000_000
"""Size at which the bag is split; what was written before survives an abrupt end."""
PART_FRAMES = 500
IMAGE, CAMERA_INFO = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo"
METADATA = "rosbag2_bagfile_information"


@dataclass(frozen=True)
class RawTopic:
    """A topic of the input, as it is copied."""

    name: str
    type: str
    definition: str
    """Message definition; empty if the input does not have it."""
    digest: str
    qos: tuple[Any, ...] = ()
    """Offered QoS profiles, in rosbags' form."""


RawMessages = Callable[[int], Iterator[tuple[RawTopic, int, bytes]]]
"""Yields topic, time and serialised data of the input's messages from a time on, in order."""


class BagExporter(Exporter):
    """bag/, a rosbag2 of one or more mcap files with zstd chunks.

    The messages of the input are copied up to the time of each frame, then the frame's own follow at
    that time: depth/image (32FC1), depth/camera_info, depth/stddev, and for keyframes refined/image,
    refined/depth, refined/camera_info, refined/stddev, all with the stamp and frame_id of the image.
    """

    name = "bag"
    needs_stddev = True

    def __init__(
        self,
        folder: Path,
        session: Session,
        *,
        topics: Sequence[RawTopic] = (),
        messages: RawMessages | None = None,
        prefix: str = "",
        with_images: bool = False,
    ) -> None:
        """Args:
        folder: of the bag.
        session: facts of the recording.
        topics, messages: of the input that are copied.
        prefix: namespace of the written topics, such as /front.
        with_images: whether image and camera_info of the input are written, too.
        """
        super().__init__(folder, session)
        self._topics, self._messages = {topic.name: topic for topic in topics}, messages
        self._prefix, self._with_images = prefix.rstrip("/"), with_images
        own = {self._topic(name) for name in ("depth/image", "depth/camera_info", "depth/stddev")}
        if conflicts := own & set(self._topics):
            raise ConfigError(
                f"the input has the topics {', '.join(sorted(conflicts))} already; give the new ones a "
                "namespace (--namespace /redepth), or leave the old ones out (--only)"
            )
        self._part: _Part | None = None
        self._copied: Iterator[tuple[RawTopic, int, bytes]] | None = None
        self._next: tuple[RawTopic, int, bytes] | None = None

    def _topic(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    @property
    def is_durable(self) -> bool:
        """Whether no file is open."""
        return self._part is None

    def write(self, frame: DepthFrame) -> None:
        """Copy the input up to the frame, and write the frame's topics."""
        part, time = self._open_part(), frame.received_at or frame.stamp
        self._copy(part, time)
        if self._with_images:
            part.write_image(self._topic("image"), frame, frame.image, "rgb8")
            part.write_info(self._topic("camera_info"), frame)
        part.write_image(self._topic("depth/image"), frame, frame.depth, "32FC1")
        part.write_info(self._topic("depth/camera_info"), frame)
        if frame.stddev is not None:
            part.write_image(self._topic("depth/stddev"), frame, frame.stddev, "32FC1")
        part.frames += 1

    def write_refined(self, refined: RefinedFrame) -> None:
        """Write refined/*."""
        part, frame = self._open_part(), refined.frame
        part.write_image(self._topic("refined/image"), frame, frame.image, "rgb8")
        part.write_image(self._topic("refined/depth"), frame, refined.depth, "32FC1")
        part.write_info(self._topic("refined/camera_info"), frame)
        part.write_image(self._topic("refined/stddev"), frame, refined.stddev, "32FC1")

    @property
    def wants_checkpoint(self) -> bool:
        """Whether the file at work is large enough."""
        return self._part is not None and (self._part.bytes > PART_BYTES or self._part.frames >= PART_FRAMES)

    def checkpoint(self) -> None:
        """Close the file at work."""
        if self._part is not None:
            self._part.close(self.folder)
            self._part = None

    def complete(self) -> None:
        """Copy the rest of the input."""
        if self._messages is not None:
            self._copy(self._open_part(), None)

    def _open_part(self) -> _Part:
        if self._part is None:
            self._part = _Part(self.folder, self._topics.values())
        return self._part

    def _copy(self, part: _Part, until: int | None) -> None:
        """Copy the messages of the input up to and including a time; None copies all."""
        if self._messages is None:
            return
        if self._copied is None:
            self._copied = self._messages(_end_of(self.folder))
            self._next = next(self._copied, None)
        while self._next is not None and (until is None or self._next[1] <= until):
            topic, time, data = self._next
            if topic.name in self._topics:
                part.copy(topic, time, data)
            self._next = next(self._copied, None)
            if until is None and self.wants_checkpoint:
                self.checkpoint()
                part = self._open_part()


class _Part:
    """One mcap file of the bag, while it is written."""

    def __init__(self, folder: Path, topics: Any) -> None:
        from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore

        self._store = get_typestore(Stores.ROS2_JAZZY)
        self._connections: dict[str, Any] = {}
        self.bytes = self.frames = 0
        number = len(list(folder.glob("*.mcap")))
        self._path = folder / f".{folder.name}_{number}"
        try:
            shutil.rmtree(self._path, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = Writer(self._path, version=8, storage_plugin=StoragePlugin.MCAP)
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            self._writer.open()
        except OSError as error:
            raise ExportError(f"{str(folder)!r} can't be written: {error.strerror or error}") from error
        for topic in topics:
            self._connections[topic.name] = self._writer.add_connection(
                topic.name,
                topic.type,
                msgdef=topic.definition,
                rihs01=topic.digest,
                offered_qos_profiles=list(topic.qos),
            )

    def copy(self, topic: RawTopic, time: int, data: bytes) -> None:
        self._write(self._connections[topic.name], time, data)

    def write_image(self, topic: str, frame: DepthFrame, image: NDArray[Any], encoding: str) -> None:
        """Write an image under the header of a frame."""
        types = self._store.types
        data = np.ascontiguousarray(image if encoding == "rgb8" else np.asarray(image, "<f4"))
        height, width = data.shape[:2]
        step = data.nbytes // height
        message = types[IMAGE](
            self._header(frame), height, width, encoding, 0, step, data.view(np.uint8).reshape(-1)
        )
        self._write_message(topic, IMAGE, frame, message)

    def write_info(self, topic: str, frame: DepthFrame) -> None:
        """Write the calibration of a frame, as recorded if it was, under the frame's header."""
        types = self._store.types
        if frame.camera is None:
            return
        if frame.camera_info is not None:
            fields = {
                one.name: getattr(frame.camera_info, one.name)
                for one in dataclasses.fields(frame.camera_info)
            }
            fields.pop("__msgtype__", None)
            message = types[CAMERA_INFO](**{**fields, "header": self._header(frame)})
        else:
            message = self._make_info(frame.camera, self._header(frame))
        self._write_message(topic, CAMERA_INFO, frame, message)

    def _make_info(self, camera: PinholeCamera, header: Any) -> Any:
        types = self._store.types
        fx, fy, cx, cy = camera.fx, camera.fy, camera.cx, camera.cy
        region = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
        k = np.array([fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0])
        p = np.array([fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0])
        return types[CAMERA_INFO](
            header,
            camera.height,
            camera.width,
            "plumb_bob",
            np.zeros(5),
            k,
            np.eye(3).reshape(-1),
            p,
            0,
            0,
            region,
        )

    def _header(self, frame: DepthFrame) -> Any:
        types = self._store.types
        stamp = types["builtin_interfaces/msg/Time"](frame.stamp // 10**9, frame.stamp % 10**9)
        return types["std_msgs/msg/Header"](stamp, frame.frame_id)

    def _write_message(self, topic: str, kind: str, frame: DepthFrame, message: Any) -> None:
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        data = self._store.serialize_cdr(message, kind)
        self._write(self._connections[topic], frame.received_at or frame.stamp, data)

    def _write(self, connection: Any, time: int, data: bytes | memoryview) -> None:
        try:
            self._writer.write(connection, time, data)
        except OSError as error:
            raise ExportError(f"{str(self._path)!r} can't be written: {error.strerror or error}") from error
        self.bytes += len(data)

    def close(self, folder: Path) -> None:
        """Close the file, move it into the bag and add it to the bag's metadata."""
        try:
            self._writer.close()
            written = next(self._path.glob("*.mcap"))
            target = folder / written.name.lstrip(".")
            written.replace(target)
            _add_metadata(folder, _read_metadata(self._path), target.name)
            shutil.rmtree(self._path)
        except OSError as error:
            raise ExportError(f"{str(folder)!r} can't be written: {error.strerror or error}") from error


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    return yaml


def _read_metadata(folder: Path) -> dict[str, Any]:
    """Return the metadata of a bag; empty if it has none."""
    path = folder / "metadata.yaml"
    content: dict[str, Any] = _yaml().load(path.read_text()) if path.is_file() else {}
    return content.get(METADATA, {})


def _add_metadata(folder: Path, part: dict[str, Any], file: str) -> None:
    """Add a file to the metadata of a bag."""
    part["files"][0]["path"] = file
    part["relative_file_paths"] = [file]
    whole = _read_metadata(folder)
    if whole:
        start = min(_start(whole), _start(part))
        end = max(_start(one) + one["duration"]["nanoseconds"] for one in (whole, part))
        counts = {one["topic_metadata"]["name"]: one for one in whole["topics_with_message_count"]}
        for topic in part["topics_with_message_count"]:
            known = counts.setdefault(topic["topic_metadata"]["name"], {**topic, "message_count": 0})
            known["message_count"] += topic["message_count"]
        part = {
            **part,
            "relative_file_paths": [*whole["relative_file_paths"], file],
            "files": [*whole["files"], *part["files"]],
            "starting_time": {"nanoseconds_since_epoch": start},
            "duration": {"nanoseconds": end - start},
            "message_count": whole["message_count"] + part["message_count"],
            "topics_with_message_count": list(counts.values()),
        }
    temporary = folder / ".metadata.yaml"
    with temporary.open("w", encoding="utf-8") as stream:
        _yaml().dump({METADATA: part}, stream)
    temporary.replace(folder / "metadata.yaml")


def _start(metadata: dict[str, Any]) -> int:
    return int(metadata["starting_time"]["nanoseconds_since_epoch"])


def _end_of(folder: Path) -> int:
    """Return the time from which on a bag has no messages yet."""
    metadata = _read_metadata(folder)
    return _start(metadata) + int(metadata["duration"]["nanoseconds"]) + 1 if metadata else 0
