"""Format html: one page to look through the frames, which needs no network and no other file."""

from __future__ import annotations

import base64
import datetime
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import write_image, write_text
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame
from redepth_ros.viz.colormaps import colorize_depth

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
        """Write the previews of a keyframe."""
        name = refined.frame.name
        self._preview("refined", name, colorize_depth(refined.depth))
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = np.clip(refined.stddev / refined.depth * 5.0, 0.0, 1.0)
        grey = (np.nan_to_num(relative) * 255.0).astype(np.uint8)
        self._preview(
            "stddev", name, cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
        )

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
        write_text(self.folder / "index.html", render_page(self.session, records, frames, complete))

    def _describe(self, record: FrameRecord) -> dict[str, Any]:
        images = {}
        for kind in MAPS:
            path = self._path(kind, record.name)
            if path.is_file():
                encoded = base64.b64encode(path.read_bytes()).decode("ascii")
                images[kind] = f"data:image/jpeg;base64,{encoded}"
        return {
            "name": record.name,
            "stamp": record.seconds_of_stamp,
            "scale": record.scale,
            "anchors": record.anchors,
            "median": record.median,
            "valid": record.valid,
            "seconds": record.seconds,
            "outcome": record.outcome,
            "message": record.message,
            "warnings": list(record.warnings),
            "images": images,
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


def render_page(
    session: Session, records: Sequence[FrameRecord], frames: list[dict[str, Any]], complete: bool
) -> str:
    """Return the page as HTML.

    Args:
        session: facts of the recording.
        records: of all frames.
        frames: those to show, see `HtmlExporter`.
        complete: whether the end of the recording was reached.
    """
    from jinja2 import Environment, PackageLoader, select_autoescape

    environment = Environment(loader=PackageLoader("redepth_ros.exports"), autoescape=select_autoescape())
    outcomes: dict[str, int] = {}
    for record in records:
        if record.outcome:
            outcomes[record.outcome] = outcomes.get(record.outcome, 0) + 1
    start = min((record.stamp for record in records), default=0)
    scales = [
        [(record.stamp - start) * 1e-9, record.scale]
        for record in records
        if record.scale is not None and np.isfinite(record.scale)
    ]
    return environment.get_template("page.html").render(
        session=session,
        made=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        count=len(records),
        failures=[record for record in records if record.failure],
        outcomes=outcomes,
        complete=complete,
        shown=len(frames),
        # Within <script>, "</" would end it.
        data=json.dumps({"frames": frames, "scales": scales}).replace("</", "<\\/"),
    )
