"""A video as a recording; every frame has the time that the container gives it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame

__all__ = ["open_video"]

NANOSECONDS = 10**9
SAMPLES = 60
"""Frames by whose times the rate is measured."""
FALLBACK_RATE = 10.0
"""Frames per second if neither the frames nor the header tell."""
MISSING_SHARE = 0.02
"""Share of the frames that the header counts beyond which missing ones are reported."""


def open_video(path: Path) -> Recording:
    """Open a video file.

    Raises:
        ConfigError: OpenCV can't read a frame of it.
    """
    capture = cv2.VideoCapture(str(path))
    try:
        found, image = capture.read() if capture.isOpened() else (False, None)
        if not found or image is None:
            raise ConfigError(
                f"{str(path)!r} can't be read as a video by OpenCV; name a video (mp4, avi, mkv), a folder "
                "of "
                "images or a rosbag2"
            )
        header_rate = float(capture.get(cv2.CAP_PROP_FPS))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        times = [capture.get(cv2.CAP_PROP_POS_MSEC)]
        while len(times) < SAMPLES and capture.grab():
            times.append(capture.get(cv2.CAP_PROP_POS_MSEC))
    finally:
        capture.release()
    steps = np.diff(times)
    stamped = len(steps) > 0 and bool((steps > 0).all())
    rate = float(1e3 / np.median(steps)) if stamped else header_rate
    if not 0.0 < rate < 1e5:
        rate = FALLBACK_RATE
    facts = [("stamps", "of the frames" if stamped else f"none: {rate:g} frames per second are assumed")]
    reader = _Video(path, rate, stamped, count)
    return Recording(
        f"the video {path}",
        "video",
        image.shape[:2],
        rate,
        reader.read,
        count=count if count > 0 else None,
        facts=tuple(facts),
    )


@dataclass(frozen=True)
class _Video:
    path: Path
    rate: float
    stamped: bool
    count: int
    """By the header."""

    def read(self, selection: Selection) -> Iterator[RecordedFrame | UnreadableFrame]:
        picker, index = selection.picker(), 0
        capture = cv2.VideoCapture(str(self.path))
        try:
            while capture.grab():
                stamp = round(index * NANOSECONDS / self.rate)
                if self.stamped:
                    stamp = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
                if picker.is_wanted(index, stamp):
                    yield self._decode(capture, index, stamp)
                elif picker.is_over(stamp):
                    return
                index += 1
        finally:
            capture.release()
        if self.count - index > max(1, MISSING_SHARE * self.count):
            yield UnreadableFrame(
                -1, self.path.name, f"the video ends after {index} of the {self.count} frames of its header"
            )

    @staticmethod
    def _decode(capture: cv2.VideoCapture, index: int, stamp: int) -> RecordedFrame | UnreadableFrame:
        found, image = capture.retrieve()
        name = f"{index:06d}"
        if not found or image is None:
            return UnreadableFrame(index, name, f"frame {index} of the video can't be decoded")
        rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        return RecordedFrame(index, stamp, name, rgb)
