"""Format ply: one coloured point cloud per frame, for MeshLab, CloudCompare and Open3D."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.exports.exporter import Exporter
from redepth_ros.exports.files import write_bytes
from redepth_ros.exports.frames import DepthFrame, Map, RefinedFrame

__all__ = ["PlyExporter"]

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


class PlyExporter(Exporter):
    """NAME.ply, binary, of the pixels with depth.

    Points are in the world if the frame has a pose, otherwise in the camera's optical frame; a comment
    in the file says which. Refined depth takes the place of the fast one.
    """

    name = "ply"
    needs_cameras = True

    def write(self, frame: DepthFrame) -> None:
        """Write the points of the fast depth."""
        self._write(frame, frame.depth)

    def write_refined(self, refined: RefinedFrame) -> None:
        """Replace them."""
        self._write(refined.frame, refined.depth)

    def _write(self, frame: DepthFrame, depth: Map) -> None:
        if frame.camera is None:
            return
        points: NDArray[np.float64] = frame.camera.points(torch.from_numpy(depth)).numpy().reshape(3, -1).T
        valid = np.isfinite(points).all(1)
        points = points[valid]
        if frame.pose is not None:
            points = points @ frame.pose[:3, :3].T + frame.pose[:3, 3]
        stored = np.empty(len(points), POINT)
        for axis, name in enumerate("xyz"):
            stored[name] = points[:, axis]
        for channel, name in enumerate(("red", "green", "blue")):
            stored[name] = frame.image.reshape(-1, 3)[valid, channel]
        where = "the world" if frame.pose is not None else "the camera's optical frame"
        unit = "metres" if self.session.in_metres else self.session.unit
        types = {"<f4": "float", "|u1": "uchar"}
        header = [
            "ply",
            "format binary_little_endian 1.0",
            f"comment points in {where}, {unit}",
            f"element vertex {len(stored)}",
            *(f"property {types[POINT[name].str]} {name}" for name in POINT.names or ()),
            "end_header",
            "",
        ]
        write_bytes(self.folder / f"{frame.name}.ply", "\n".join(header).encode() + stored.tobytes())
