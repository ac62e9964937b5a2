"""Measured depth that comes beside the images."""

from __future__ import annotations

import time

from builtin_interfaces.msg import Time
from rclpy.node import Node
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import Header

from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth, anchors_from_points
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.ros.msgs.point_clouds import decode_cloud
from redepth_ros.ros.msgs.images import decode_depth
from redepth_ros.ros.streams.message_cache import Stamped, nanoseconds
from redepth_ros.ros.streams.subscription import NewestSubscription
from redepth_ros.ros.streams.transforms import Transforms

__all__ = ["AnchorInput", "anchors_of_image"]

KEPT = 60
"""Messages that are kept for images that the network takes long to answer: two seconds of a fast sensor."""
PATIENCE = 0.03
"""Seconds to wait for the anchors of an image's own stamp, of a sensor that measured the image before at its
stamp: those of a registered depth image come a little later than the colours."""
SILENCE = 2.0
"""Seconds without a message after which one complains."""
ASPECT = 0.02
"""Relative difference of the aspect ratios up to which two images can show the same."""


def anchors_of_image(message: Image, header: Header, height: int, width: int) -> Anchors:
    """The anchors of a depth image that shows what an image shows.

    Args:
        message: see `images.decode_depth`; of the image's size or another one of its aspect.
        header: of the image.
        height, width: of the image, in pixels.

    Raises:
        ImageError: it can't be decoded.
        AnchorError: it is of another frame or aspect, in another unit, or has nothing valid.
    """
    if message.header.frame_id != header.frame_id:
        raise AnchorError(
            f"the anchors' depth image is of the frame {message.header.frame_id!r}, the image of "
            f"{header.frame_id!r}: register it to the camera first (depth_image_proc's register node)"
        )
    depth = decode_depth(message)
    if abs(message.width * height / (message.height * width) - 1.0) > ASPECT:
        raise AnchorError(
            f"the anchors' depth image has {message.width}x{message.height} pixels, the image "
            f"{width}x{height}: they can't show the same; register it to the camera first"
        )
    return anchors_from_depth(depth).resized(height, width)


class AnchorInput:
    """Subscribes to `anchors/depth` or `anchors/points`, and gives the anchors of an image."""

    def __init__(self, node: Node, kind: str, tolerance: float, fixed_frame: str) -> None:
        """Args:
        node: whose subscription it is.
        kind: depth or points.
        tolerance: seconds that the stamps of image and anchors may lie apart.
        fixed_frame: through which points are carried from their stamp to the image's, see `Transforms`.
        """
        self._tolerance = tolerance
        self._arrived_at = time.monotonic()
        self.apart = float("nan")
        """Seconds between the stamps of the last image and of the anchors nearest to it."""
        self._messages: Stamped[Image | PointCloud2] = Stamped(KEPT)
        self._previous: Time | None = None  # stamp of the image before
        self._used: Image | PointCloud2 | None = None
        message = Image if kind == "depth" else PointCloud2
        self.subscription = NewestSubscription(node, message, f"anchors/{kind}", self._file)
        self._transforms = Transforms(node, fixed_frame) if kind == "points" else None

    def _file(self, message: Image | PointCloud2) -> None:
        self._arrived_at = time.monotonic()
        self._messages.add(message)

    def of(self, header: Header, height: int, width: int, intrinsics: Intrinsics | None) -> Anchors | None:
        """The anchors of an image, None where nothing new came within the tolerance.

        Each message is of one image: the same measurement twice would count as two. So a sensor that is
        slower than the camera gives some images none; that is nothing to complain of.

        Args:
            header: of the image.
            height, width: of the image, in pixels.
            intrinsics: of the image; needed for points.

        Raises:
            ImageError: a message that can't be decoded.
            AnchorError: anchors of another view, or in another unit, or nothing valid; or none came
                at all for seconds, or those that came have other stamps.
        """
        message = self._of_stamp(header.stamp)
        if message is None:
            if time.monotonic() - self._arrived_at > SILENCE:
                raise AnchorError(f"nothing came on {self.subscription.topic} for {SILENCE:g} s")
            if self.apart > 1.0:
                raise AnchorError(
                    f"the stamps on {self.subscription.topic} are {self.apart:.1f} s from the image's: set "
                    "the clocks of both sensors by one source; or the network is too slow, lower input_size"
                )
            return None
        if message is self._used:
            return None
        self._used = message
        if isinstance(message, Image):
            return anchors_of_image(message, header, height, width)
        if intrinsics is None:
            raise AnchorError("anchors/points need the image's camera_info, and there is none")
        assert self._transforms is not None
        return anchors_from_points(
            self._transforms.apply(decode_cloud(message), message.header, header), intrinsics
        )

    def _of_stamp(self, stamp: Time) -> Image | PointCloud2 | None:
        """The message of a stamp, or the nearest one within the tolerance."""
        previous, self._previous = self._previous, stamp
        own = None
        if previous is not None and self._messages.wait_for_nearest(previous, 0.0) is not None:
            own = self._messages.wait_for_nearest(stamp, 0.0, PATIENCE)
        nearest = own or self._messages.wait_for_nearest(stamp, float("inf"))
        if nearest is None:
            return None
        self.apart = abs(nanoseconds(nearest.header.stamp) - nanoseconds(stamp)) * 1e-9
        return nearest if self.apart <= self._tolerance else None

    def destroy(self) -> None:
        """Unsubscribe."""
        self.subscription.destroy()
        if self._transforms is not None:
            self._transforms.destroy()
