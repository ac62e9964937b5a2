"""What every format does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame

__all__ = ["Exporter", "Session"]


@dataclass(frozen=True)
class Session:
    """Facts of a recording and its processing that are known before the first frame."""

    description: str
    """Of the recording."""
    unit: str
    """Of the depth: "m", or what it is where the scale is unknown."""
    rate: float
    """Frames per second of the recording, Hz."""
    has_cameras: bool
    """Whether frames have calibrations."""
    has_poses: bool
    """Whether frames have poses."""

    @property
    def in_metres(self) -> bool:
        """Whether the depth is in metres."""
        return self.unit == "m"


class Exporter:
    """Writes frames into a folder.

    `write` is called with every frame in order, `write_refined` with keyframes, which may come later.
    A frame counts as done once it is durable; see `is_durable`.

    Raises:
        ConfigError: on construction, if the recording lacks what the format needs.
        ExportError: by its methods, if a file can't be written.
    """

    name = ""
    """Of the format."""
    needs_stddev = False
    """Whether the standard deviation of the fast depth is written."""
    needs_poses = False
    needs_cameras = False

    def __init__(self, folder: Path, session: Session) -> None:
        self.folder, self.session = folder, session
        lacks, remedies = [], []
        if self.needs_poses and not session.has_poses:
            lacks.append("poses")
            remedies.append("a bag with /tf or odometry, or --colmap")
        if self.needs_cameras and not session.has_cameras:
            lacks.append("a calibration")
            remedies.append("--camera-info, --intrinsics or --colmap")
        if lacks:
            raise ConfigError(
                f"format {self.name} needs {' and '.join(lacks)}, which the input does not have: give "
                f"{', and '.join(remedies)}; or choose another format"
            )

    @property
    def is_durable(self) -> bool:
        """Whether all frames written so far survive an abrupt end."""
        return True

    @property
    def wants_checkpoint(self) -> bool:
        """Whether enough is written for a checkpoint."""
        return False

    def write(self, frame: DepthFrame) -> None:
        """Write a frame."""
        raise NotImplementedError

    def write_refined(self, refined: RefinedFrame) -> None:
        """Write the refined depth of a keyframe, whose frame was written before."""

    def complete(self) -> None:
        """Write what follows the last frame, once the end of the recording is reached."""

    def checkpoint(self) -> None:
        """Make all frames durable."""

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write what needs all frames.

        Args:
            records: of all frames, also of former calls, in their order; those with a `failure` have no
                depth, and no files.
            complete: whether the end of the recording was reached.
        """
