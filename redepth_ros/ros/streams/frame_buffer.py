"""The last frames of a camera, found by their stamps."""

from __future__ import annotations

from collections import deque

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.ros.msgs.time import nanoseconds

__all__ = ["FrameBuffer"]


class FrameBuffer:
    """Keeps the last frames in the order of arrival, and the anchors of those that have some.

    Thread-safe: each method does one operation on a deque.
    """

    def __init__(self, size: int) -> None:
        """Args:
        size: number of frames that are kept.
        """
        self._frames: deque[Image | CompressedImage] = deque(maxlen=size)
        self._anchors: deque[tuple[int, Anchors]] = deque(maxlen=size)  # with the stamp of their frame

    def add(self, frame: Image | CompressedImage) -> None:
        """Store a frame."""
        self._frames.append(frame)

    def add_anchors(self, stamp: Time, anchors: Anchors) -> None:
        """Store the anchors of a frame; the frame itself may be gone already."""
        self._anchors.append((nanoseconds(stamp), anchors))

    def clear(self) -> None:
        """Drop all frames and anchors."""
        self._frames.clear()
        self._anchors.clear()

    def find(self, stamp: Time) -> tuple[Image | CompressedImage, Anchors | None]:
        """Return the frame of a stamp and its anchors.

        A stamp of zero asks for the newest frame that has anchors and, if no frame has anchors, for the
        newest frame. (The anchors of the very newest frame are known only after its depth.)

        Raises:
            ConfigError: the buffer has no such frame.
        """
        wanted, frames = nanoseconds(stamp), list(self._frames)
        anchors = dict(self._anchors.copy())
        found = [frame for frame in frames if not wanted or nanoseconds(frame.header.stamp) == wanted]
        if not found:
            span = f"the buffer has {len(frames)} frames"
            if frames:
                first, last = (nanoseconds(frame.header.stamp) / 1e9 for frame in (frames[0], frames[-1]))
                span += f" with stamps from {first:.9f} to {last:.9f} s"
            raise ConfigError(
                f"no frame of stamp {wanted / 1e9:.9f} s: {span}; ask sooner, or raise frame_buffer_size"
            )
        anchored = [frame for frame in found if nanoseconds(frame.header.stamp) in anchors]
        frame = (anchored or found)[-1]
        return frame, anchors.get(nanoseconds(frame.header.stamp))
