"""Format images: 16-bit PNG in millimetres, float32 as npz or EXR on request, and the intrinsics."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import ExportError, to_uint16, write_bytes, write_image, write_json
from redepth_ros.exports.frames import DepthFrame, FrameRecord, Map, RefinedFrame

__all__ = ["ImagesExporter"]

PER_UNIT = 1000.0


class ImagesExporter(Exporter):
    """depth/NAME.png, refined/NAME.png, with `float32` also .npz, with `exr` also .exr, and intrinsics.json.

    An npz has `depth` and, if known, `stddev`, (H, W) float32 in the unit that intrinsics.json names,
    NaN where invalid. An EXR has the same as the channels `Y` and `stddev`: readers take a single map from
    `Y`, and OpenCV takes zeros from `Z`.
    """

    name = "images"

    def __init__(self, folder: Path, session: Session, *, float32: bool = False, exr: bool = False) -> None:
        super().__init__(folder, session)
        self._float32 = float32
        self._openexr = _import_openexr() if exr else None
        self.needs_stddev = float32 or exr

    def write(self, frame: DepthFrame) -> None:
        """Write the fast depth."""
        self._write("depth", frame.name, frame.depth, frame.stddev)

    def write_refined(self, refined: RefinedFrame) -> None:
        """Write the refined depth."""
        self._write("refined", refined.frame.name, refined.depth, refined.stddev)

    def _write(self, kind: str, name: str, depth: Map, stddev: Map | None) -> None:
        write_image(self.folder / kind / f"{name}.png", to_uint16(depth, PER_UNIT))
        maps = {"depth": depth} if stddev is None else {"depth": depth, "stddev": stddev}
        # OpenEXR writes garbage of arrays whose rows are not contiguous.
        maps = {key: np.ascontiguousarray(one, np.float32) for key, one in maps.items()}
        if self._float32:
            stream = io.BytesIO()
            arrays: dict[str, Any] = maps
            np.savez_compressed(stream, **arrays)
            write_bytes(self.folder / kind / f"{name}.npz", stream.getvalue())
        if self._openexr is not None:
            self._write_exr(self.folder / kind / f"{name}.exr", {"Y": maps.pop("depth"), **maps})

    def _write_exr(self, path: Path, channels: dict[str, Map]) -> None:
        openexr: Any = self._openexr
        header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
        try:
            with openexr.File(header, channels) as file:
                file.write(str(path))
        except RuntimeError as error:  # the disk is full
            raise ExportError(f"{str(path)!r} can't be written: {error}") from error

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write intrinsics.json; calibrations that differ are listed by frame."""
        cameras = {
            record.name: {
                **dict(zip(("fx", "fy", "cx", "cy"), record.camera, strict=True)),
                "width": record.width,
                "height": record.height,
            }
            for record in records
            if record.camera
        }
        distinct = [dict(one) for one in {tuple(camera.items()) for camera in cameras.values()}]
        write_json(
            self.folder / "intrinsics.json",
            {
                "unit": self.session.unit,
                "png_values_per_unit": PER_UNIT,
                "camera": distinct[0] if len(distinct) == 1 else None,
                "cameras": cameras if len(distinct) > 1 else {},
            },
        )


def _import_openexr() -> Any:
    try:
        import OpenEXR
    except ImportError:
        raise ConfigError("--exr needs OpenEXR: pip install OpenEXR") from None
    return OpenEXR
