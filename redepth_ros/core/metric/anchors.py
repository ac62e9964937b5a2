"""Anchors: pixels with measured depth, from a lidar or a depth camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError

__all__ = ["Anchors", "anchors_from_depth", "anchors_from_points", "anchors_from_same_view"]

MAX_ANCHORS = 2000
"""Anchors kept of a dense measurement: more do not improve a fit of two numbers."""

ASPECT_TOLERANCE = 0.02
"""Largest relative difference of the aspect ratios of two images that show the same view."""

PLAUSIBLE_MEDIAN = (0.02, 300.0)
"""Range of the median of a robot's measured depth, metres."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """Measured depth at some pixels of an image."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    """(N,) pixels."""
    depth: Array
    """(N,) metres along the optical axis, positive and finite."""
    height: int
    width: int
    """Size of the image, pixels."""

    def __len__(self) -> int:
        return len(self.depth)

    def sample(self, values: Tensor) -> Tensor:
        """Return the values of maps (..., H, W) of the image's size at the anchors: (..., N)."""
        index = torch.from_numpy(self.rows * self.width + self.columns).to(values.device)
        return values.flatten(-2)[..., index]

    def resized(self, height: int, width: int) -> Anchors:
        """Return the anchors of the same image at another size."""
        rows = ((self.rows + 0.5) * (height / self.height)).astype(np.int64)
        columns = ((self.columns + 0.5) * (width / self.width)).astype(np.int64)
        return Anchors(rows, columns, self.depth, height, width)

    def to_depth(self) -> NDArray[np.float32]:
        """Return a sparse depth image: (height, width) metres, NaN where nothing was measured."""
        sparse = np.full((self.height, self.width), np.nan, np.float32)
        sparse[self.rows, self.columns] = self.depth
        return sparse


def anchors_from_depth(depth: NDArray[np.floating], max_anchors: int = MAX_ANCHORS) -> Anchors:
    """Make anchors of a depth image (H, W) in metres; NaN, infinity and values up to 0 are invalid.

    If more than `max_anchors` pixels are valid, a random subset is taken, the same in each call.

    Raises:
        AnchorError: no pixel is valid, or the unit can't be metres.
    """
    index = np.flatnonzero(np.isfinite(depth) & (depth > 0))
    if not len(index):
        raise AnchorError(
            f"none of the {depth.size} pixels of the anchors' depth image is valid (positive and finite)"
        )
    if len(index) > max_anchors:
        index = np.random.default_rng(0).choice(index, max_anchors, replace=False, shuffle=False)
    rows, columns = np.divmod(index, depth.shape[1])
    measured = depth[rows, columns].astype(np.float64)
    _check_unit(measured)
    return Anchors(rows, columns, measured, *depth.shape)


def anchors_from_same_view(
    depth: NDArray[np.floating], depth_frame: str, image_frame: str, height: int, width: int
) -> Anchors:
    """Make anchors of an image (height, width) from a depth image of the same view.

    Args:
        depth: (h, w) in metres, of the image's size, or of another size with the same aspect ratio.
        depth_frame, image_frame: frame_id of both images.
        height, width: of the image, pixels.

    Raises:
        AnchorError: the depth image has another frame, another aspect ratio, another unit, or no valid
            pixel.
    """
    if depth_frame != image_frame:
        raise AnchorError(
            f"the anchors' depth image is in the frame {depth_frame!r}, the image in {image_frame!r}: "
            "register the depth image to the camera first (depth_image_proc's register node)"
        )
    rows, columns = depth.shape
    if abs(columns * height / (rows * width) - 1.0) > ASPECT_TOLERANCE:
        raise AnchorError(
            f"the anchors' depth image has {columns}x{rows} pixels, the image {width}x{height}: their aspect "
            "ratios differ; register the depth image to the camera first"
        )
    return anchors_from_depth(depth).resized(height, width)


def anchors_from_points(points: Array, camera: PinholeCamera, max_anchors: int = MAX_ANCHORS) -> Anchors:
    """Make anchors of a point cloud (N, 3) in the camera's optical frame, metres.

    Points behind the camera, outside the image or not finite are dropped. Of several points in one
    pixel the nearest is kept, because it occludes the others.

    Raises:
        AnchorError: no point is inside the image, or the unit can't be metres.
    """
    points = points[np.isfinite(points).all(1)]
    points = points[points[:, 2] > 0]
    if len(points):
        _check_unit(points[:, 2])
    with np.errstate(over="ignore"):  # far outside of the image
        columns = np.rint(points[:, 0] / points[:, 2] * camera.fx + camera.cx)
        rows = np.rint(points[:, 1] / points[:, 2] * camera.fy + camera.cy)
    inside = (rows >= 0) & (rows < camera.height) & (columns >= 0) & (columns < camera.width)
    if not inside.any():
        raise AnchorError(
            f"none of the {len(points)} points in front of the camera is inside the image; check the "
            "transform from the cloud's frame to the camera's"
        )
    sparse = np.full((camera.height, camera.width), np.inf)
    np.minimum.at(sparse, (rows[inside].astype(int), columns[inside].astype(int)), points[inside, 2])
    return anchors_from_depth(sparse, max_anchors)


def _check_unit(depth: Array) -> None:
    with np.errstate(over="ignore"):  # the mean of two huge numbers
        median = float(np.median(depth))
    low, high = PLAUSIBLE_MEDIAN
    if low <= median <= high:
        return
    mistake = "millimetres taken for metres" if median > high else "metres taken for millimetres"
    raise AnchorError(
        f"the median of the anchors' depth is {median:.4g} m: these look like {mistake}; publish metres in "
        "32FC1 or millimetres in 16UC1 (REP 118)"
    )
