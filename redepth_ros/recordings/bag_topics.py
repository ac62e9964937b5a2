"""Which topics of a bag belong together: camera, calibration, anchors, poses."""

from __future__ import annotations

from dataclasses import dataclass

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.messages.images import DEPTH_ENCODINGS

__all__ = [
    "CAMERA_INFO",
    "COMPRESSED",
    "IMAGE",
    "ODOMETRY",
    "POINTS",
    "TF_TOPICS",
    "Topic",
    "choose_anchors",
    "choose_calibration",
    "choose_camera",
]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED = "sensor_msgs/msg/CompressedImage"
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
POINTS = "sensor_msgs/msg/PointCloud2"
ODOMETRY = "nav_msgs/msg/Odometry"
TF_TOPICS = ("/tf", "/tf_static")


@dataclass(frozen=True)
class Topic:
    """A topic of a bag, with facts from its first message."""

    name: str
    type: str
    count: int
    frame_id: str = ""
    encoding: str = ""
    """Of an Image; of a CompressedImage its format."""
    size: tuple[int, int] = (0, 0)
    """Height and width; (0, 0) if the message does not tell."""

    @property
    def is_depth(self) -> bool:
        """Whether its images hold depth."""
        if self.type == COMPRESSED:
            first = self.encoding.split(";")[0].strip()
            return "compressedDepth" in self.encoding + self.name or first in DEPTH_ENCODINGS
        return self.type == IMAGE and self.encoding in DEPTH_ENCODINGS

    @property
    def is_grey(self) -> bool:
        """Whether its images have no colours."""
        first = self.encoding.split(";")[0].strip()
        return first.startswith("mono") or first == "8UC1"

    @property
    def is_camera(self) -> bool:
        """Whether its images are those of a camera."""
        video = self.type == COMPRESSED and ("theora" in self.encoding or self.name.endswith("/theora"))
        return self.type in (IMAGE, COMPRESSED) and self.count > 0 and not self.is_depth and not video

    @property
    def base(self) -> str:
        """The name without the transport: /front/image_raw of /front/image_raw/compressed."""
        return self.name.removesuffix("/compressed") if self.type == COMPRESSED else self.name

    @property
    def camera_namespace(self) -> str:
        """The namespace in which image_transport expects camera_info."""
        return self.base.rsplit("/", 1)[0]


def choose_camera(topics: list[Topic], wanted: str = "") -> Topic:
    """Return the image topic to process.

    The only camera is taken; colour is preferred to grey, and of one camera's transports the raw one.

    Args:
        topics: of the bag.
        wanted: name of a topic; empty chooses.

    Raises:
        ConfigError: the topic is missing or holds depth; or there are several cameras, or none.
    """
    cameras = [topic for topic in topics if topic.is_camera]
    names = ", ".join(topic.name for topic in cameras) or "none"
    if wanted:
        for topic in topics:
            if topic.name == wanted or (topic.base == wanted and topic.is_camera):
                if not topic.is_camera:
                    kind = (
                        f"depth ({topic.encoding})"
                        if topic.is_depth
                        else f"{topic.type}, {topic.count} messages"
                    )
                    raise ConfigError(f"topic {wanted} is no camera but {kind}; name one of these: {names}")
                return topic
        raise ConfigError(f"the bag has no image topic {wanted}; name one of these: {names}")
    for group in ([one for one in cameras if not one.is_grey], [one for one in cameras if one.is_grey]):
        raw = {topic.base for topic in group if topic.type == IMAGE}
        chosen = [topic for topic in group if topic.type == IMAGE or topic.base not in raw]
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            raise ConfigError(
                f"the bag has {len(chosen)} image topics; name one by --topic or the parameter bag_topic: "
                + ", ".join(topic.name for topic in chosen)
            )
    others = ", ".join(f"{topic.name} ({topic.type})" for topic in topics) or "none"
    raise ConfigError(f"the bag has no image topic of a camera; its topics: {others}")


def choose_calibration(topics: list[Topic], camera: Topic) -> tuple[Topic | None, str]:
    """Return the calibration of a camera and how it was found; never that of another camera."""
    infos = [topic for topic in topics if topic.type == CAMERA_INFO and topic.count]
    for name in (f"{camera.camera_namespace}/camera_info", f"{camera.base}/camera_info"):
        for topic in infos:
            if topic.name == name:
                return topic, f"{name}, by its name"
    same = [
        topic
        for topic in infos
        if topic.frame_id and topic.frame_id == camera.frame_id and camera.size in ((0, 0), topic.size)
    ]
    if len(same) == 1:
        return same[0], f"{same[0].name}, by its frame_id {camera.frame_id}"
    found = ", ".join(topic.name for topic in infos)
    if not infos:
        return None, "none in the bag"
    if same:
        return None, f"none: {len(same)} topics have the frame_id {camera.frame_id} ({found})"
    return None, f"none: those in the bag are of other cameras ({found})"


def choose_anchors(topics: list[Topic], camera: Topic, wanted: str, has_tf: bool) -> tuple[Topic | None, str]:
    """Return the topic of measured depth for a camera, and how it was found.

    Args:
        topics: of the bag.
        camera: chosen image topic.
        wanted: auto, none, depth, points, or the name of a topic.
        has_tf: whether the bag has transforms.

    Raises:
        ConfigError: the wanted topic is missing or has another type.
    """
    if wanted == "none":
        return None, wanted
    raw = [topic for topic in topics if topic.type == IMAGE and topic.is_depth and topic.count]
    depths = [topic for topic in raw if topic.frame_id == camera.frame_id and topic.name != camera.name]
    clouds = [topic for topic in topics if topic.type == POINTS and topic.count]
    if wanted not in ("auto", "depth", "points"):
        for topic in raw + clouds:
            if topic.name == wanted:
                return topic, f"{topic.name}, as asked"
        names = ", ".join(topic.name for topic in raw + clouds) or "none"
        raise ConfigError(
            f"--anchors is {wanted!r}, which is no depth image or point cloud of the bag; it has: {names}"
        )
    candidates: list[Topic] = []
    if wanted in ("auto", "depth"):
        candidates = depths
    if wanted == "points" or (wanted == "auto" and not candidates):
        candidates = [one for one in clouds if has_tf or one.frame_id == camera.frame_id]
    if len(candidates) == 1:
        return candidates[0], f"{candidates[0].name}, the only one"
    found = ", ".join(topic.name for topic in raw + clouds) or "none"
    reason = "several topics could be" if candidates else "no topic is measured depth of this camera"
    if wanted == "auto":
        return None, f"none: {reason} ({found}); name one (--anchors TOPIC)"
    raise ConfigError(
        f"--anchors is {wanted!r}: {reason}, with the frame_id {camera.frame_id!r} or tf; the bag has: "
        f"{found}. Name one (--anchors TOPIC)"
    )
