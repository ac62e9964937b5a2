"""Format splat: inverse depth for 3D Gaussian splatting (graphdeco-inria/gaussian-splatting)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import to_uint16, write_image, write_json
from redepth_ros.exports.frames import DepthFrame, FrameRecord, Map, RefinedFrame

__all__ = ["SplatExporter"]

STEPS = 65_536.0
"""The trainer divides the stored values by it."""
HEADROOM = 4.0
"""Largest inverse depth that can be stored over that of the first frame's near pixels."""


class SplatExporter(Exporter):
    """depths/NAME.png (16-bit inverse depth) and sparse/0/depth_params.json.

    train.py -d OUT/splat/depths reads the images by their names, and scale and offset of each from
    sparse/0/depth_params.json in the folder of the COLMAP model; copy it there. Inverse depth is value
    / 65536 * scale + offset. The scale is only known if the depth is in the model's unit (metres, or
    --colmap); otherwise run the trainer's utils/make_depth_scale.py, which measures it.
    Refined depth takes the place of the fast one.
    """

    name = "splat"

    def __init__(self, folder: Path, session: Session) -> None:
        super().__init__(folder, session)
        self._range = self._read_range()

    def write(self, frame: DepthFrame) -> None:
        """Write the inverse depth."""
        self._write(frame.name, frame.depth)

    def write_refined(self, refined: RefinedFrame) -> None:
        """Replace it."""
        self._write(refined.frame.name, refined.depth)

    def _write(self, name: str, depth: Map) -> None:
        valid = np.isfinite(depth) & (depth > 0)
        inverse = np.divide(1.0, depth, where=valid, out=np.zeros_like(depth))
        if not self._range:
            if not valid.any():
                write_image(self.folder / "depths" / f"{name}.png", np.zeros(depth.shape, np.uint16))
                return
            # One range for all frames: the trainer distrusts those whose scale differs from the others'.
            self._range = HEADROOM * float(np.percentile(inverse[valid], 99.9))
            write_json(self.folder / "range.json", self._range)
        write_image(self.folder / "depths" / f"{name}.png", to_uint16(inverse, STEPS / self._range))

    def _read_range(self) -> float:
        try:
            return float(json.loads((self.folder / "range.json").read_text()))
        except (OSError, ValueError, TypeError):
            return 0.0

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write depth_params.json if the scale is known."""
        if self.session.in_metres and self._range:
            names = [record.name for record in records if not record.failure]
            params = {name: {"scale": self._range, "offset": 0.0} for name in names}
            write_json(self.folder / "sparse" / "0" / "depth_params.json", params)
