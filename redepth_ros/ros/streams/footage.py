"""Footage: pictures one after the other, from a video, a folder, a rosbag2 or scikit-image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.ros.msgs.images import decode_compressed, decode_image

__all__ = ["PHOTOGRAPHS", "Footage", "Shot", "open_footage"]

PHOTOGRAPHS = ("stereo_motorcycle", "coffee", "astronaut", "chelsea", "rocket", "camera")
"""Photographs in scikit-image's wheel, by the names of its functions."""

MOTORCYCLE = Intrinsics(994.978, 994.978, 311.193, 254.877, 741, 500)
"""Calibration of Middlebury's Motorcycle at the size in which scikit-image has it."""

PICTURE_RATE = 10.0
"""Frames a second for pictures, which have no rate of their own."""

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMAGES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}


@dataclass(frozen=True)
class Shot:
    """One frame of footage."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB bytes."""
    calibration: Any = None
    """Intrinsics, or an object with CameraInfo's fields, or None where unknown."""
    frame_id: str = ""
    """The footage's own frame; empty where it has none."""


@dataclass(frozen=True)
class Footage:
    """Where the frames come from. `shots` begins anew with each call."""

    description: str
    rate: float
    """Frames a second in the footage itself."""
    shots: Callable[[], Iterator[Shot]]


def open_footage(path: str, bag_topic: str = "") -> Footage:
    """Footage of a path; empty for the photographs that come with scikit-image.

    Args:
        path: a video, a picture, a folder of pictures, or the folder of a rosbag2 (sqlite3
            or mcap).
        bag_topic: image topic of the bag; empty for its first one.

    Raises:
        ConfigError: nothing can be played there; the message says what can.
    """
    if not path:
        return Footage("photographs of scikit-image", PICTURE_RATE, _photographs)
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigError(
            f"path is {path!r}, and there is nothing there; name a video, a picture, a folder of "
            "pictures or a rosbag2, or leave it empty for scikit-image's photographs"
        )
    if place.is_dir() and (place / "metadata.yaml").exists():
        return _bag(place, bag_topic)
    if place.is_dir():
        pictures = sorted(entry for entry in place.iterdir() if entry.suffix.lower() in PICTURES)
        if not pictures:
            raise ConfigError(
                f"path is {path!r}, a folder with neither pictures ({', '.join(sorted(PICTURES))}) "
                "nor the metadata.yaml of a rosbag2"
            )
        return Footage(f"{len(pictures)} pictures of {place}", PICTURE_RATE, lambda: _read(pictures))
    if place.suffix in (".mcap", ".db3"):
        raise ConfigError(f"path is {path!r}, one file of a rosbag2; name its folder, {str(place.parent)!r}")
    if place.suffix.lower() in PICTURES:
        return Footage(f"the picture {place}", PICTURE_RATE, lambda: _read([place]))
    return _video(place)


def _photographs() -> Iterator[Shot]:
    import skimage.data

    for name in PHOTOGRAPHS:
        picture = getattr(skimage.data, name)()
        if name == "stereo_motorcycle":
            yield Shot(np.ascontiguousarray(picture[0]), MOTORCYCLE)
        elif picture.ndim == 2:
            yield Shot(np.repeat(picture[..., None], 3, axis=2))
        else:
            yield Shot(np.ascontiguousarray(picture[..., :3]))


def _read(pictures: list[Path]) -> Iterator[Shot]:
    for path in pictures:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            raise ImageError(f"{path} can't be decoded as a picture; remove it from the folder or repair it")
        yield Shot(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def _video(path: Path) -> Footage:
    def shots() -> Iterator[Shot]:
        capture = cv2.VideoCapture(str(path))
        try:
            while True:
                more, picture = capture.read()
                if not more:
                    return
                yield Shot(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        finally:
            capture.release()

    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    readable = capture.isOpened() and capture.grab()
    capture.release()
    if not readable:
        raise ConfigError(
            f"path is {str(path)!r}, which OpenCV can't read as a video; name a video (mp4, avi, mkv), "
            "a folder of pictures or the folder of a rosbag2"
        )
    return Footage(f"the video {path}", rate if rate > 0 else PICTURE_RATE, shots)


def _bag(path: Path, bag_topic: str) -> Footage:
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    def reader() -> AnyReader:
        # Bags of ROS 2 up to Humble don't carry their message definitions.
        return AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))

    try:
        with reader() as bag:
            images = [c for c in bag.connections if c.msgtype in IMAGES and c.msgcount]
            chosen = next((c for c in images if bag_topic in ("", c.topic)), None)
            if chosen is None:
                there = ", ".join(c.topic for c in images) or "none"
                raise ConfigError(
                    f"rosbag2 {str(path)!r} has no image topic {bag_topic or 'at all'}; there are: {there}"
                )
            topic, count = chosen.topic, chosen.msgcount
            beside = topic.rsplit("/", 2 if chosen.msgtype.endswith("CompressedImage") else 1)[0]
            infos = [c.topic for c in bag.connections if c.msgtype == CAMERA_INFO and c.msgcount]
            info_topic = next((t for t in infos if t == f"{beside}/camera_info"), next(iter(infos), ""))
            seconds = max(bag.duration * 1e-9, 1e-3)
    except (AnyReaderError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"path is {str(path)!r}, which can't be read as a rosbag2: {error}") from error

    def shots() -> Iterator[Shot]:
        with reader() as bag:
            wanted = [c for c in bag.connections if c.topic in (topic, info_topic)]
            info: Any = None
            for connection, _, raw in bag.messages(connections=[c for c in wanted if c.topic == info_topic]):
                info = bag.deserialize(raw, connection.msgtype)
                break
            for connection, _, raw in bag.messages(connections=wanted):
                message: Any = bag.deserialize(raw, connection.msgtype)
                if connection.topic == info_topic:
                    info = message
                elif connection.msgtype == CAMERA_INFO:
                    continue
                elif connection.msgtype.endswith("CompressedImage"):
                    yield Shot(decode_compressed(message.data), info, message.header.frame_id)
                else:
                    picture = np.ascontiguousarray(decode_image(message))
                    yield Shot(picture, info, message.header.frame_id)

    return Footage(f"{topic} of the rosbag2 {path}", max((count - 1) / seconds, 0.1), shots)
