"""Format html: one page to look through the frames, which needs no network and no other file."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import write_image, write_text
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame
from redepth_ros.viz.colormaps import (
    MAX_RELATIVE_STDDEV,
    colorize_depth,
    colorize_stddev,
    depth_limits,
)
from redepth_ros.viz.pages import embed_image, render_page

__all__ = ["HtmlExporter"]

SIDE = 480
"""Longer side of the images in the page, pixels."""
MAX_FRAMES = 240
"""Frames in the page: keyframes first, the others evenly over time."""
MAPS = ("image", "depth", "refined", "stddev")


class HtmlExporter(Exporter):
    """index.html, made of the previews in previews/."""

    name = "html"

    def write(self, frame: DepthFrame) -> None:
        """Write the previews of a frame."""
        self._preview("image", frame.name, frame.image)
        self._preview("depth", frame.name, colorize_depth(frame.depth))

    def write_refined(self, refined: RefinedFrame) -> None:
        """Write the previews of a keyframe; the refined depth has the colours of the fast one."""
        frame = refined.frame
        self._preview("refined", frame.name, colorize_depth(refined.depth, depth_limits(frame.depth)))
        self._preview("stddev", frame.name, colorize_stddev(refined.stddev, refined.depth))

    def _preview(self, kind: str, name: str, image: NDArray[Any]) -> None:
        factor = SIDE / max(image.shape[:2])
        if factor < 1.0:
            image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        write_image(self._path(kind, name), np.asarray(image, np.uint8))

    def _path(self, kind: str, name: str) -> Path:
        return self.folder / "previews" / f"{name}.{kind}.jpg"

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write the page."""
        chosen = _choose([record for record in records if not record.failure])
        frames = [self._describe(record) for record in chosen]
        write_text(self.folder / "index.html", render_frames(self.session, records, frames, complete))

    def _describe(self, record: FrameRecord) -> dict[str, Any]:
        paths = {kind: self._path(kind, record.name) for kind in MAPS}
        return {
            "name": record.name,
            "stamp": record.seconds_of_stamp,
            "scale": record.scale,
            "anchors": record.anchors,
            "median": record.median,
            "limits": record.limits,
            "valid": record.valid,
            "outcome": record.outcome,
            "message": record.message,
            "warnings": record.warnings,
            "images": {kind: embed_image(path) for kind, path in paths.items() if path.is_file()},
        }


def _choose(records: list[FrameRecord]) -> list[FrameRecord]:
    """Return at most MAX_FRAMES records in their order, refined ones first."""
    if len(records) <= MAX_FRAMES:
        return records
    chosen: set[int] = set()
    for group in ([i for i, one in enumerate(records) if one.outcome], list(range(len(records)))):
        room = MAX_FRAMES - len(chosen)
        picks = np.linspace(0, len(group) - 1, min(room, len(group))) if group else np.empty(0)
        chosen |= {group[round(pick)] for pick in picks}
    return [records[index] for index in sorted(chosen)]


def render_frames(
    session: Session, records: Sequence[FrameRecord], frames: list[dict[str, Any]], complete: bool
) -> str:
    """Return the page as HTML.

    Args:
        session: facts of the recording.
        records: of all frames.
        frames: those to show, see `HtmlExporter`.
        complete: whether the end of the recording was reached.
    """
    start = min((record.stamp for record in records if not record.failure), default=0)
    scales = [
        ((record.stamp - start) * 1e-9, record.scale)
        for record in records
        if record.scale is not None and np.isfinite(record.scale)
    ]
    return render_page(
        "frames.html",
        session=session,
        made=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        count=len(records),
        failures=[(record.name, record.failure) for record in records if record.failure],
        outcomes=Counter(record.outcome for record in records if record.outcome),
        complete=complete,
        frames=frames,
        scales=scales,
        start=start * 1e-9,
        largest_stddev=f"{100 * MAX_RELATIVE_STDDEV:g} % and more",
    )
