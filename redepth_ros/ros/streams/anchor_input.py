"""Measured depth beside the images: a depth image or a point cloud for each frame."""

from __future__ import annotations

import time

from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_points
from redepth_ros.ros.msgs.anchor_image import anchors_from_msg
from redepth_ros.ros.msgs.point_clouds import points_from_msg
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.streams.message_cache import MessageCache
from redepth_ros.ros.streams.subscription import NewestSubscription
from redepth_ros.ros.streams.transforms import Transforms

__all__ = ["AnchorInput"]

CACHE_SIZE = 60
"""Messages kept for images that the network takes long to process: two seconds of a fast sensor."""
TIMEOUT = 0.03
"""Seconds to wait for anchors with an image's own stamp, if the image before had such anchors: a
registered depth image arrives a little after its colour image."""
SILENCE_TIMEOUT = 2.0
"""Seconds without a message after which the topic counts as silent."""
CLOCK_OFFSET = 1.0
"""Seconds between the stamps of images and anchors above which their clocks probably differ."""


class AnchorInput:
    """Subscribes to `anchors/depth` or `anchors/points` and returns the anchors of an image."""

    def __init__(self, node: Node, kind: str, tolerance: float, fixed_frame: str) -> None:
        """Args:
        node: owner of the subscription.
        kind: depth or points.
        tolerance: largest distance between the stamps of an image and of its anchors, seconds.
        fixed_frame: compensates motion between the two stamps of a cloud, see `Transforms`.
        """
        self._tolerance = tolerance
        self._received_at = time.monotonic()
        self.stamp_distance = float("nan")
        """Seconds between the stamps of the last image and of the nearest anchors."""
        self._messages: MessageCache[Image | PointCloud2] = MessageCache(CACHE_SIZE)
        self._previous: Time | None = None  # stamp of the image before
        self._used: Image | PointCloud2 | None = None
        message = Image if kind == "depth" else PointCloud2
        self.subscription = NewestSubscription(node, message, f"anchors/{kind}", self.add)
        self._transforms = Transforms(node, fixed_frame) if kind == "points" else None

    def add(self, message: Image | PointCloud2) -> None:
        """Store a message that has just arrived."""
        self._received_at = time.monotonic()
        self._messages.add(message)

    def anchors(
        self, header: Header, height: int, width: int, camera: PinholeCamera | None
    ) -> Anchors | None:
        """Return the anchors of an image; None if there are no new ones within the tolerance.

        Each message is used for one image only: the same measurement must not count twice. Some images
        of a camera that is faster than the sensor therefore have no anchors.

        Args:
            header: of the image.
            height, width: of the image, in pixels.
            camera: of the image; needed for points.

        Raises:
            ImageError: the message can't be decoded.
            AnchorError: the anchors show another view, have another unit or no valid pixel; or the topic
                is silent, or its stamps are far from those of the images.
        """
        message = self._find(header.stamp)
        if message is None:
            self._check_topic()
            return None
        if message is self._used:
            return None
        self._used = message
        if isinstance(message, Image):
            return anchors_from_msg(message, header, height, width)
        if camera is None:
            raise AnchorError(
                "anchors is points, and the image has no camera_info: publish it with the stamp of the image"
            )
        assert self._transforms is not None
        points = self._transforms.apply(points_from_msg(message), message.header, header)
        return anchors_from_points(points, camera)

    def _find(self, stamp: Time) -> Image | PointCloud2 | None:
        """Return the message of a stamp, or the nearest one within the tolerance."""
        previous, self._previous = self._previous, stamp
        exact = None
        if previous is not None and self._messages.nearest(previous, 0.0) is not None:
            exact = self._messages.nearest(stamp, 0.0, TIMEOUT)
        nearest = exact or self._messages.nearest(stamp, float("inf"))
        if nearest is None:
            return None
        self.stamp_distance = abs(nanoseconds(nearest.header.stamp) - nanoseconds(stamp)) * 1e-9
        return nearest if self.stamp_distance <= self._tolerance else None

    def _check_topic(self) -> None:
        """Raise AnchorError if the topic is silent or its clock differs."""
        topic = self.subscription.topic
        if time.monotonic() - self._received_at > SILENCE_TIMEOUT:
            raise AnchorError(
                f"no message on {topic} for {SILENCE_TIMEOUT:g} s; {self.subscription.missing_messages()}"
            )
        if self.stamp_distance > CLOCK_OFFSET:
            raise AnchorError(
                f"the stamps on {topic} are {self.stamp_distance:.1f} s from those of the images: "
                "synchronise the clocks of both sensors; if the network is too slow, lower input_size"
            )

    def destroy(self) -> None:
        """Unsubscribe."""
        self.subscription.destroy()
        if self._transforms is not None:
            self._transforms.destroy()
