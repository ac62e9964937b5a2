"""What every kind of recording gives: its facts, and its frames in order."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import Anchors

__all__ = ["RecordedFrame", "Recording", "Selection", "UnreadableFrame"]


RESOLUTION = 1e-9
"""Seconds: stamps are nanoseconds."""


@dataclass(frozen=True)
class RecordedFrame:
    """One decoded frame."""

    index: int
    """Number of the frame in the recording, from 0; frames that are left out count."""
    stamp: int
    """Time of the exposure, nanoseconds."""
    name: str
    """Name for files, unique in the recording."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    camera: PinholeCamera | None = None
    camera_info: Any = None
    """The calibration as recorded, with the fields of sensor_msgs/CameraInfo; None if there is none."""
    frame_id: str = ""
    """As recorded; empty if unknown."""
    received_at: int = 0
    """Time at which a bag recorded the message, nanoseconds."""
    anchors: Anchors | None = None
    warnings: tuple[str, ...] = ()
    """Why the frame has no anchors, calibration or pose although it should."""
    pose: NDArray[np.float64] | None = None
    """(4, 4) transform from the camera's optical frame to the world."""


@dataclass(frozen=True)
class UnreadableFrame:
    """A frame that can't be decoded, or the reason why a recording ends early."""

    index: int
    """-1 where it is no frame but the rest of the recording."""
    name: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """Choice of frames.

    Raises:
        ConfigError: on construction, if a value is out of its range.
    """

    every: int = 1
    """Take one frame in so many."""
    rate: float = 0.0
    """Take at most so many frames per second of the recording, Hz; 0 takes all."""
    start: float = 0.0
    """Seconds after the first frame."""
    end: float = float("inf")
    """Seconds after the first frame."""
    done: Container[int] = field(default_factory=frozenset)
    """Indices of frames that need not be decoded again."""

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ConfigError(f"--every is {self.every}; it must be at least 1")
        if not 0.0 <= self.rate < float("inf"):
            raise ConfigError(f"--rate is {self.rate:g} Hz; it must be at least 0")
        if self.start < 0.0 or self.end <= self.start:
            raise ConfigError(
                f"--start is {self.start:g} s and --end {self.end:g} s; 0 <= start < end must hold"
            )

    def picker(self) -> Picker:
        """Return the state of one pass over a recording."""
        return Picker(self)


class Picker:
    """Decides frame by frame, in the order of the recording."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._first: int | None = None
        self._in_range = 0
        self._due = float("-inf")

    def is_wanted(self, index: int, stamp: int) -> bool:
        """Return whether a frame is selected and not done yet; call it once for each frame."""
        chosen, first = self._selection, stamp if self._first is None else self._first
        self._first = first
        seconds = (stamp - first) * 1e-9
        if not chosen.start - RESOLUTION < seconds < chosen.end + RESOLUTION:
            return False
        number, self._in_range = self._in_range, self._in_range + 1
        if number % chosen.every:
            return False
        if chosen.rate:
            # A hundredth of a period, because stamps jitter.
            if seconds < self._due - 0.01 / chosen.rate:
                return False
            behind = seconds - self._due > 1.0 / chosen.rate
            self._due = (seconds if behind else self._due) + 1.0 / chosen.rate
        return index not in chosen.done

    def is_over(self, stamp: int) -> bool:
        """Return whether later frames can't be selected."""
        return self._first is not None and (stamp - self._first) * 1e-9 > self._selection.end + 10.0


@dataclass(frozen=True)
class Recording:
    """A source of frames. Each call of `read` starts from the beginning."""

    description: str
    kind: str
    """bag, video or images."""
    size: tuple[int, int]
    """Height and width of the first frame, pixels."""
    rate: float
    """Frames per second, by the stamps of the frames; 0 if there is only one."""
    read: Callable[[Selection], Iterator[RecordedFrame | UnreadableFrame]]
    count: int | None = None
    """Number of frames, if the recording tells."""
    facts: tuple[tuple[str, str], ...] = ()
    """What was found, as (what, which) for the user."""
    bag: Any = None
    """Paths of the bag, see `bag.open_reader`; None for other kinds."""

    def frames(self, selection: Selection | None = None) -> Iterator[RecordedFrame]:
        """Yield the frames that can be decoded."""
        for frame in self.read(selection or Selection()):
            if isinstance(frame, RecordedFrame):
                yield frame
