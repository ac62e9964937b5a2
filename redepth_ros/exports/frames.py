"""What is exported: frames with depth, and the records that remain of them."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import RedepthError

__all__ = ["DepthFrame", "FrameRecord", "RefinedFrame"]

Map = NDArray[np.float32]


@dataclass(frozen=True)
class DepthFrame:
    """A frame with its fast depth; maps are (H, W)."""

    index: int
    stamp: int
    """Nanoseconds."""
    name: str
    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    depth: Map
    """In metres, or in an unknown unit; NaN where invalid."""
    stddev: Map | None
    """In the unit of the depth."""
    camera: PinholeCamera | None = None
    camera_info: Any = None
    """As recorded, with the fields of sensor_msgs/CameraInfo."""
    frame_id: str = ""
    received_at: int = 0
    """Time in the recording, nanoseconds; 0 if it has none."""
    pose: NDArray[np.float64] | None = None
    """(4, 4) transform from the camera's optical frame to the world."""


@dataclass(frozen=True)
class RefinedFrame:
    """A keyframe with its refined depth; maps are (H, W)."""

    frame: DepthFrame
    depth: Map
    stddev: Map
    outcome: str
    """In words, such as "refined"."""
    message: str


@dataclass(frozen=True)
class FrameRecord:
    """Facts of a frame, as the table and the journal keep them."""

    index: int
    stamp: int
    name: str
    failure: str = ""
    """Why there is no depth; the other fields are then empty."""
    height: int = 0
    width: int = 0
    frame_id: str = ""
    camera: tuple[float, float, float, float] | None = None
    """fx, fy, cx, cy in pixels."""
    pose: tuple[float, ...] | None = None
    """The 16 values of the (4, 4) transform from the camera to the world, row by row."""
    scale: float | None = None
    shift: float | None = None
    covariance: tuple[float, float, float] | None = None
    """Of the scale, see `core.metric.scale.Scale`."""
    anchors: int = 0
    """Number of anchors that were used."""
    measured: tuple[float, ...] | None = None
    """Scale, shift, their covariance (3 values) and the residual_stddev that the frame's anchors give."""
    valid: float = 0.0
    """Share of the pixels with depth."""
    median: float | None = None
    """Of the depth."""
    limits: tuple[float, float] | None = None
    """Depths of the brightest and the darkest colour, see `viz.colormaps.depth_limits`."""
    seconds: float = 0.0
    """From the decoded image to the depth."""
    keyframe: bool = False
    class_token: str = ""
    """Of a keyframe: float32 values in base64."""
    outcome: str = ""
    """Of the refinement."""
    message: str = ""
    refine_seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def scale_stddev(self) -> float | None:
        """Relative standard deviation of the scale."""
        return None if self.covariance is None else math.sqrt(max(self.covariance[0], 0.0))

    @property
    def seconds_of_stamp(self) -> str:
        """The stamp in seconds with nine digits after the point."""
        return f"{self.stamp // 10**9}.{self.stamp % 10**9:09d}"

    @property
    def pose_matrix(self) -> NDArray[np.float64] | None:
        """The pose, (4, 4)."""
        return None if self.pose is None else np.array(self.pose).reshape(4, 4)

    def to_json(self) -> str:
        """Return one line of JSON; fields with their defaults are left out."""
        content = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }
        return json.dumps(content, allow_nan=True, ensure_ascii=False)

    @classmethod
    def from_json(cls, line: str | bytes) -> FrameRecord:
        """Read a line of `to_json`.

        Raises:
            RedepthError: the line is damaged.
        """
        try:
            content = dict(json.loads(line))
            content = {key: tuple(v) if isinstance(v, list) else v for key, v in content.items()}
            record = cls(**content)
            if type(record.index) is not int or type(record.stamp) is not int or type(record.name) is not str:
                raise ValueError("index and stamp must be integers, name a string")
            return record
        except (ValueError, TypeError, RecursionError) as error:
            raise RedepthError(f"a line of the journal is damaged: {error}") from None


def rounded(value: float | None, digits: int = 6) -> str:
    """Return a number for a table; empty for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:.{digits}g}"
