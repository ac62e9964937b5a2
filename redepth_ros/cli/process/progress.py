"""The progress of `redepth process`."""

from __future__ import annotations

from redepth_ros.exports.frames import FrameRecord

__all__ = ["Progress"]


class Progress:
    """Told about each step; does nothing by itself."""

    def frame(self, record: FrameRecord) -> None:
        """Called after each frame."""

    def refining(self, name: str, share: float) -> None:
        """Called while a keyframe is refined, with the share that is done."""

    def refined(self, record: FrameRecord) -> None:
        """Called after each refinement."""
