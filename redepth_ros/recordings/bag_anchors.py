"""Measured depth of a bag, and the anchors that it gives to images."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_points, anchors_from_same_view
from redepth_ros.recordings.bag_reader import header_stamp
from redepth_ros.recordings.bag_topics import POINTS
from redepth_ros.recordings.messages.clouds import points_from_fields
from redepth_ros.recordings.messages.images import depth_from_fields
from redepth_ros.recordings.transforms import TransformBuffer, transform_points

__all__ = ["BagAnchors"]

KEPT = 400
"""Messages that are kept."""
SILENCE = 1_000_000_000
"""Nanoseconds to the nearest anchors from which on a frame without anchors is reported."""


class BagAnchors:
    """The messages of a topic with measured depth; each one serves one image only."""

    def __init__(
        self,
        topic: str,
        tolerance: float,
        fixed_frame: str,
        deserialize: Callable[[bytes, str], Any],
        transforms: TransformBuffer,
    ) -> None:
        """Args:
        topic: name of the topic.
        tolerance: seconds between an image and its anchors.
        fixed_frame: for moving sensors, see `TransformBuffer.lookup_full`; empty assumes a static robot.
        deserialize: returns a message, given its bytes and its type.
        transforms: from the frames of points to that of the camera.
        """
        self.topic = topic
        self._tolerance, self._fixed_frame = tolerance * 1e9, fixed_frame
        self._deserialize, self._transforms = deserialize, transforms
        self._measured: deque[tuple[int, bytes, str]] = deque(maxlen=KEPT)
        self._used: int | None = None

    def add(self, raw: bytes, kind: str) -> None:
        """Add a message of this type; raises if it has no header."""
        self._measured.append((header_stamp(raw), bytes(raw), kind))

    def find(
        self,
        stamp: int,
        frame_id: str,
        height: int,
        width: int,
        camera: PinholeCamera | None,
        warnings: list[str],
    ) -> Anchors | None:
        """Return the anchors of an image.

        Args:
            stamp: of the image, nanoseconds.
            frame_id: of the image.
            height, width: of the image, pixels.
            camera: of the image, if known.
            warnings: receives why the image has no anchors.
        """
        nearest = min(self._measured, key=lambda one: abs(one[0] - stamp), default=None)
        distance = abs(nearest[0] - stamp) if nearest is not None else SILENCE + 1
        if nearest is None or distance > SILENCE:
            warnings.append(f"no anchors: {self.topic} has no message within 1 s")
            return None
        if distance > self._tolerance or nearest[0] == self._used:
            return None
        measured_at, raw, kind = nearest
        self._used = measured_at
        try:
            message = self._deserialize(raw, kind)
            if kind == POINTS:
                return self._from_points(message, measured_at, stamp, frame_id, camera)
            depth = depth_from_fields(message)
            return anchors_from_same_view(depth, message.header.frame_id, frame_id, height, width)
        except (AnchorError, ImageError) as error:
            warnings.append(f"anchors are not used: {error}")
        except Exception as error:  # rosbags and struct raise many kinds for damaged bytes
            warnings.append(f"anchors are not used: their message is damaged: {error!r}")
        return None

    def _from_points(
        self, message: Any, measured_at: int, stamp: int, frame_id: str, camera: PinholeCamera | None
    ) -> Anchors:
        """Return the anchors of a point cloud."""
        if camera is None:
            raise AnchorError(
                "anchors are points, and the camera has no calibration: give --camera-info or --intrinsics"
            )
        source, fixed = str(message.header.frame_id), self._fixed_frame
        if fixed:
            matrix = self._transforms.lookup_full(frame_id, stamp, source, measured_at, fixed)
        else:
            matrix = self._transforms.lookup(frame_id, source, measured_at)
        points = points_from_fields(message)  # (N, 3)
        return anchors_from_points(transform_points(matrix, points), camera)
