"""The calibrations of a camera, found by the stamps of its images."""

from __future__ import annotations

import time
from collections.abc import Callable

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CameraInfo

from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.streams.message_cache import MessageCache

__all__ = ["CalibrationCache"]

ALONE = 1.0
"""Seconds after which a message without a successor counts as published once."""


class CalibrationCache(MessageCache[CameraInfo]):
    """Finds the calibration of an image.

    Many drivers and simulators publish a calibration whose stamp says nothing: 0, the same one for ever, or
    that of the start, published once. Such a calibration is constant, and is used for every image. Where the
    stamps do advance, a calibration is used only within the tolerance. Thread-safe.
    """

    def __init__(self, size: int, topic: str, inform: Callable[[str], None]) -> None:
        """Args:
        size: number of messages that are kept.
        topic: full name, for messages.
        inform: called with a message when a constant calibration is used for the first time.
        """
        super().__init__(size)
        self._topic, self._inform = topic, inform
        self._arrived_at = float("-inf")
        self._informed = False

    def add(self, message: CameraInfo) -> None:
        """Store a message that has just arrived."""
        self._arrived_at = time.monotonic()
        super().add(message)

    def nearest(self, stamp: Time, tolerance: float, timeout: float = 0.0) -> CameraInfo | None:
        """Return the calibration nearest to a stamp, or the constant one; see `MessageCache.nearest`."""
        found = super().nearest(stamp, tolerance)
        if found is not None:
            return found
        constant = self._constant()
        if constant is None:
            return super().nearest(stamp, tolerance, timeout) if timeout else None
        found, reason = constant
        if not self._informed:
            self._informed = True
            self._inform(f"{self._topic} {reason}: it is used for all images")
        return found

    def mismatch(self, stamp: Time, tolerance: float) -> str:
        """Return why `nearest` found nothing, and the remedy."""
        nearest = super().nearest(stamp, float("inf"))
        if nearest is None:
            return f"no message arrived on {self._topic}; publish it, or remap camera_info"
        distance = abs(nanoseconds(nearest.header.stamp) - nanoseconds(stamp)) * 1e-9
        return (
            f"the nearest message on {self._topic} is {distance:.3f} s away, more than camera_info_tolerance "
            f"= {tolerance:g} s; publish it with the stamp of each image, or raise camera_info_tolerance"
        )

    def _constant(self) -> tuple[CameraInfo, str] | None:
        """Return the newest calibration if its stamp says nothing, and why it does not."""
        with self._added:
            messages = list(self._messages)
        if not messages:
            return None
        newest = messages[-1]
        stamp = nanoseconds(newest.header.stamp)
        if stamp == 0:
            return newest, "has the stamp 0"
        if any(nanoseconds(message.header.stamp) != stamp for message in messages):
            return None
        if len(messages) > 1:
            return newest, "has the same stamp always"
        if time.monotonic() - self._arrived_at > ALONE:
            return newest, "was published once"
        return None
