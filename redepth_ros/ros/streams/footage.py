"""Footage: images from a video, a folder, a rosbag2 or scikit-image, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.data import motorcycle
from redepth_ros.ros.msgs.images import image_from_compressed_msg, image_from_msg

__all__ = ["PHOTOGRAPHS", "Footage", "Shot", "open_footage"]

PHOTOGRAPHS = ("stereo_motorcycle", "coffee", "astronaut", "chelsea", "rocket", "camera")
"""Photographs in scikit-image's wheel, by the names of its functions."""

IMAGE_RATE = 10.0
"""Frames per second of image files, which have no rate of their own."""

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
IMAGE_TYPES = {"sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"}


@dataclass(frozen=True)
class Shot:
    """One frame of footage."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    calibration: Any = None
    """A PinholeCamera, an object with CameraInfo's fields, or None if unknown."""
    frame_id: str = ""
    """As recorded; empty if unknown."""


@dataclass(frozen=True)
class Footage:
    """A source of frames. Each call of `shots` starts from the beginning."""

    description: str
    rate: float
    """Frames per second of the source."""
    shots: Callable[[], Iterator[Shot]]


def open_footage(path: str, bag_topic: str = "") -> Footage:
    """Open the footage of a path.

    Args:
        path: a video, an image, a folder of images, or the folder of a rosbag2 (sqlite3 or mcap); empty
            for the photographs of scikit-image.
        bag_topic: image topic of the bag; empty for its first one.

    Raises:
        ConfigError: nothing can be played; the message says what can.
    """
    if not path:
        return Footage("photographs of scikit-image", IMAGE_RATE, _photographs)
    place = Path(path).expanduser()
    if not place.exists():
        raise ConfigError(
            f"path is {path!r}, which does not exist; name a video, an image, a folder of images or a "
            "rosbag2, or leave path empty for scikit-image's photographs"
        )
    if place.is_dir() and (place / "metadata.yaml").exists():
        return _open_bag(place, bag_topic)
    if place.is_dir():
        images = sorted(entry for entry in place.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)
        if not images:
            raise ConfigError(
                f"path is {path!r}, a folder with neither images ({', '.join(sorted(IMAGE_SUFFIXES))}) "
                "nor the metadata.yaml of a rosbag2"
            )
        return Footage(f"{len(images)} images of {place}", IMAGE_RATE, lambda: _image_files(images))
    if place.suffix in (".mcap", ".db3"):
        raise ConfigError(f"path is {path!r}, one file of a rosbag2; name its folder, {str(place.parent)!r}")
    if place.suffix.lower() in IMAGE_SUFFIXES:
        return Footage(f"the image {place}", IMAGE_RATE, lambda: _image_files([place]))
    return _open_video(place)


def _photographs() -> Iterator[Shot]:
    import skimage.data

    for name in PHOTOGRAPHS:
        if name == "stereo_motorcycle":
            yield Shot(motorcycle.load_motorcycle()[0], motorcycle.CAMERA)
            continue
        image = getattr(skimage.data, name)()
        if image.ndim == 2:
            yield Shot(np.repeat(image[..., None], 3, axis=2))
        else:
            yield Shot(np.ascontiguousarray(image[..., :3]))


def _image_files(paths: list[Path]) -> Iterator[Shot]:
    for path in paths:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise ImageError(f"{path} can't be decoded as an image; remove or repair it")
        yield Shot(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _open_video(path: Path) -> Footage:
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS)
    readable = capture.isOpened() and capture.grab()
    capture.release()
    if not readable:
        raise ConfigError(
            f"path is {str(path)!r}, which OpenCV can't read as a video; name a video (mp4, avi, mkv), "
            "a folder of images or the folder of a rosbag2"
        )
    return Footage(f"the video {path}", rate if rate > 0 else IMAGE_RATE, lambda: _video_frames(path))


def _video_frames(path: Path) -> Iterator[Shot]:
    capture = cv2.VideoCapture(str(path))
    try:
        while True:
            found, image = capture.read()
            if not found:
                return
            yield Shot(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()


def _bag_reader(path: Path) -> Any:
    from rosbags.highlevel import AnyReader
    from rosbags.typesys import Stores, get_typestore

    # Bags of ROS 2 up to Humble don't contain their message definitions.
    return AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE))


def _open_bag(path: Path, bag_topic: str) -> Footage:
    from rosbags.highlevel import AnyReaderError

    try:
        with _bag_reader(path) as bag:
            images = [c for c in bag.connections if c.msgtype in IMAGE_TYPES and c.msgcount]
            chosen = next((c for c in images if bag_topic in ("", c.topic)), None)
            if chosen is None:
                topics = ", ".join(c.topic for c in images) or "none"
                raise ConfigError(
                    f"rosbag2 {str(path)!r} has no image topic {bag_topic or 'at all'}; it has: {topics}"
                )
            topic, count = chosen.topic, chosen.msgcount
            camera = topic.rsplit("/", 2 if chosen.msgtype.endswith("CompressedImage") else 1)[0]
            infos = [c.topic for c in bag.connections if c.msgtype == CAMERA_INFO and c.msgcount]
            info_topic = next((t for t in infos if t == f"{camera}/camera_info"), next(iter(infos), ""))
            seconds = max(bag.duration * 1e-9, 1e-3)
    except (AnyReaderError, OSError, ValueError, KeyError) as error:
        raise ConfigError(f"path is {str(path)!r}, which can't be read as a rosbag2: {error}") from error
    rate = max((count - 1) / seconds, 0.1)
    return Footage(f"{topic} of the rosbag2 {path}", rate, lambda: _bag_frames(path, topic, info_topic))


def _bag_frames(path: Path, topic: str, info_topic: str) -> Iterator[Shot]:
    with _bag_reader(path) as bag:
        connections = [c for c in bag.connections if c.topic in (topic, info_topic)]
        info: Any = None
        for connection, _, raw in bag.messages(connections=[c for c in connections if c.topic == info_topic]):
            info = bag.deserialize(raw, connection.msgtype)
            break
        for connection, _, raw in bag.messages(connections=connections):
            message: Any = bag.deserialize(raw, connection.msgtype)
            if connection.topic == info_topic:
                info = message
            elif connection.msgtype == CAMERA_INFO:
                continue
            elif connection.msgtype.endswith("CompressedImage"):
                yield Shot(image_from_compressed_msg(message.data), info, message.header.frame_id)
            else:
                image = np.ascontiguousarray(image_from_msg(message))
                yield Shot(image, info, message.header.frame_id)
