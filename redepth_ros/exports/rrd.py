"""Format rrd: a recording for the Rerun viewer; needs rerun-sdk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import ExportError
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame

__all__ = ["RrdExporter"]


class RrdExporter(Exporter):
    """N.rrd, one file per call: images, depth and refined depth with their pinhole, over time."""

    name = "rrd"

    def __init__(self, folder: Path, session: Session) -> None:
        super().__init__(folder, session)
        try:
            import rerun
        except ImportError:
            raise ConfigError("format rrd needs Rerun: pip install rerun-sdk") from None
        self._rerun: Any = rerun
        self._stream: Any = None
        self._open = False

    @property
    def is_durable(self) -> bool:
        """Whether no file is open."""
        return not self._open

    def write(self, frame: DepthFrame) -> None:
        """Log the image and the fast depth."""
        rr = self._start(frame.stamp)
        if frame.camera is not None:
            camera = frame.camera
            self._stream.log(
                "world/camera",
                rr.Pinhole(
                    focal_length=(camera.fx, camera.fy),
                    principal_point=(camera.cx + 0.5, camera.cy + 0.5),
                    resolution=(camera.width, camera.height),
                ),
            )
        if frame.pose is not None:
            moved = rr.Transform3D(translation=frame.pose[:3, 3], mat3x3=frame.pose[:3, :3])
            self._stream.log("world/camera", moved)
        self._stream.log("world/camera/image", rr.Image(frame.image))
        self._stream.log("world/camera/depth", rr.DepthImage(frame.depth, meter=1.0))

    def write_refined(self, refined: RefinedFrame) -> None:
        """Log the refined depth."""
        rr = self._start(refined.frame.stamp)
        self._stream.log("world/camera/refined", rr.DepthImage(refined.depth, meter=1.0))

    def _start(self, stamp: int) -> Any:
        if not self._open:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f"{len(list(self.folder.glob('*.rrd')))}.rrd"
                self._stream = self._rerun.RecordingStream("redepth")
                self._stream.save(str(path))
            except OSError as error:
                raise ExportError(
                    f"{str(self.folder)!r} can't be written: {error.strerror or error}"
                ) from error
            self._open = True
        self._stream.set_time("time", timestamp=stamp * 1e-9)
        return self._rerun

    def checkpoint(self) -> None:
        """Write out what is logged; later frames go to another file."""
        if self._open:
            self._stream.flush()
            self._stream.disconnect()
            self._open = False

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Close the file."""
        self.checkpoint()
