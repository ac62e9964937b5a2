"""Format nerfstudio: transforms.json with depth images, for nerfstudio and its relatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from redepth_ros.exports.exporter import Exporter
from redepth_ros.exports.files import to_uint16, write_image, write_json
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame

__all__ = ["NerfstudioExporter"]

PER_METRE = 1000.0
OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""From OpenGL's camera axes (y up, z backward) to the optical frame's."""


class NerfstudioExporter(Exporter):
    """images/, depth/ (16 bit, millimetres, 0 unknown) and transforms.json.

    Refined depth takes the place of the fast one. Poses are transforms from the camera to the world.
    """

    name = "nerfstudio"
    needs_poses = needs_cameras = True

    def write(self, frame: DepthFrame) -> None:
        """Write colour and depth."""
        write_image(self.folder / "images" / f"{frame.name}.png", frame.image)
        write_image(self.folder / "depth" / f"{frame.name}.png", to_uint16(frame.depth, PER_METRE))

    def write_refined(self, refined: RefinedFrame) -> None:
        """Replace the depth."""
        path = self.folder / "depth" / f"{refined.frame.name}.png"
        write_image(path, to_uint16(refined.depth, PER_METRE))

    def finish(self, records: Sequence[FrameRecord], complete: bool) -> None:
        """Write transforms.json; frames without a pose or a calibration are left out."""
        frames = []
        for record in records:
            pose = record.pose_matrix
            if pose is None or record.camera is None:
                continue
            fx, fy, cx, cy = record.camera
            frames.append(
                {
                    "file_path": f"images/{record.name}.png",
                    "depth_file_path": f"depth/{record.name}.png",
                    "transform_matrix": (pose @ OPENGL).tolist(),
                    "fl_x": fx,
                    "fl_y": fy,
                    # The centre of the first pixel is at 0.5 there.
                    "cx": cx + 0.5,
                    "cy": cy + 0.5,
                    "w": record.width,
                    "h": record.height,
                }
            )
        content = {"camera_model": "OPENCV", "depth_unit_scale_factor": 1.0 / PER_METRE, "frames": frames}
        write_json(self.folder / "transforms.json", content)
