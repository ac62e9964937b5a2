"""Format tum: the layout of the TUM RGB-D benchmark, read by MonoGS, SplaTAM, evo and Open3D."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from redepth_ros.exports.exporter import Exporter
from redepth_ros.exports.files import to_uint16, write_image, write_text
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame

__all__ = ["TumExporter", "quaternion_from_matrix"]

PER_METRE = 5000.0


class TumExporter(Exporter):
    """rgb/, depth/ (16 bit, metres x 5000, 0 none), rgb.txt, depth.txt, associations.txt, groundtruth.txt.

    Refined depth takes the place of the fast one.
    """

    name = "tum"

    def write(self, frame: DepthFrame) -> None:
        """Write colour and depth; the file names are the stamps."""
        stem = _stem(frame.stamp)
        write_image(self.folder / "rgb" / f"{stem}.png", frame.image)
        write_image(self.folder / "depth" / f"{stem}.png", to_uint16(frame.depth, PER_METRE))

    def write_refined(self, refined: RefinedFrame) -> None:
        """Replace the depth."""
        path = self.folder / "depth" / f"{_stem(refined.frame.stamp)}.png"
        write_image(path, to_uint16(refined.depth, PER_METRE))

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write the lists of files, and the poses if there are any."""
        records = [record for record in records if not record.failure]
        stems = list(dict.fromkeys(_stem(record.stamp) for record in records))
        for kind in ("rgb", "depth"):
            lines = [f"{stem} {kind}/{stem}.png" for stem in stems]
            write_text(
                self.folder / f"{kind}.txt",
                "\n".join([f"# {kind} images", "# timestamp filename", *lines, ""]),
            )
        lines = [f"{stem} rgb/{stem}.png {stem} depth/{stem}.png" for stem in stems]
        write_text(self.folder / "associations.txt", "\n".join([*lines, ""]))
        poses = [
            (_stem(record.stamp), matrix) for record in records if (matrix := record.pose_matrix) is not None
        ]
        if poses:
            lines = [
                "# timestamp tx ty tz qx qy qz qw",
                *(_pose_line(stem, matrix) for stem, matrix in poses),
            ]
            write_text(self.folder / "groundtruth.txt", "\n".join([*lines, ""]))


def _stem(stamp: int) -> str:
    """Return seconds with six digits after the point, as the benchmark writes them."""
    return f"{stamp // 10**9}.{stamp % 10**9 // 1000:06d}"


def _pose_line(stem: str, pose: NDArray[np.float64]) -> str:
    values = [*pose[:3, 3], *quaternion_from_matrix(pose[:3, :3])]
    return " ".join([stem, *(f"{value:.7f}" for value in values)])


def quaternion_from_matrix(rotation: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Return the unit quaternion x, y, z, w with w >= 0 of a rotation (3, 3).

    Source: Bar-Itzhack, New method for extracting the quaternion from a rotation matrix (2000).
    """
    (a, b, c), (d, e, f), (g, h, i) = rotation
    symmetric = np.array(
        [
            [a - e - i, b + d, c + g, h - f],
            [b + d, e - a - i, f + h, c - g],
            [c + g, f + h, i - a - e, d - b],
            [h - f, c - g, d - b, a + e + i],
        ]
    )
    _, vectors = np.linalg.eigh(symmetric)
    x, y, z, w = (float(one) for one in vectors[:, -1] * (1.0 if vectors[3, -1] >= 0 else -1.0))
    return x, y, z, w
