"""The last frames of a camera, for whoever asks for one later."""

from __future__ import annotations

from collections import deque

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.errors import ConfigError
from redepth_ros.ros.streams.message_cache import nanoseconds

__all__ = ["HeldFrames"]


class HeldFrames:
    """Frames in the order in which they came, and the anchors of those that have some.

    Safe between threads: each method does one thing to a deque.
    """

    def __init__(self, most: int) -> None:
        """Args:
        most: number of frames that are held.
        """
        self._frames: deque[Image | CompressedImage] = deque(maxlen=most)
        self._anchors: deque[tuple[int, Anchors]] = deque(maxlen=most)  # with their frame's stamp

    def add(self, frame: Image | CompressedImage) -> None:
        """Hold a frame."""
        self._frames.append(frame)

    def add_anchors(self, stamp: Time, anchors: Anchors) -> None:
        """Hold the anchors of a frame, which may be gone already."""
        self._anchors.append((nanoseconds(stamp), anchors))

    def clear(self) -> None:
        """Hold nothing."""
        self._frames.clear()
        self._anchors.clear()

    def find(self, stamp: Time) -> tuple[Image | CompressedImage, Anchors | None]:
        """The frame of a stamp, and its anchors.

        A stamp of zero is the newest frame that has anchors, where there are such: those of the very
        newest are not known before its depth is made.

        Raises:
            ConfigError: it is not held.
        """
        wanted, held = nanoseconds(stamp), list(self._frames)
        anchors = dict(self._anchors.copy())
        found = [one for one in held if not wanted or nanoseconds(one.header.stamp) == wanted]
        if not found:
            span = f"{len(held)} frames are held"
            if held:
                first, last = (nanoseconds(one.header.stamp) / 1e9 for one in (held[0], held[-1]))
                span += f", of stamps {first:.9f} to {last:.9f} s"
            raise ConfigError(
                f"no frame of stamp {wanted / 1e9:.9f} s: {span}; ask sooner, or raise held_frames"
            )
        anchored = [one for one in found if nanoseconds(one.header.stamp) in anchors]
        frame = (anchored or found)[-1]
        return frame, anchors.get(nanoseconds(frame.header.stamp))
