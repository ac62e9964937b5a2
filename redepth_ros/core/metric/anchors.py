"""Anchors: pixels whose depth was measured, by whatever on the robot knows metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.camera import Intrinsics

__all__ = ["Anchors", "anchor_loss", "anchors_from_depth", "anchors_from_points"]

MOST = 2000
"""Anchors that are kept of a dense measurement: more do not make a fit of two numbers better."""

TOLERANCE = 0.02
"""Error of ln depth below which the loss is quadratic, and above which it grows linearly."""

PLAUSIBLE = (0.02, 300.0)
"""Metres between which the median of a robot's measured depth lies."""

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
    """Size of the image, in pixels."""

    def __len__(self) -> int:
        return len(self.depth)

    def at(self, values: Tensor) -> Tensor:
        """What maps (..., H, W) of the image's size hold at the anchors: (..., N)."""
        places = torch.from_numpy(self.rows * self.width + self.columns).to(values.device)
        return values.flatten(-2)[..., places]

    def resized(self, height: int, width: int) -> Anchors:
        """The same on an image of another size that shows the same."""
        rows = ((self.rows + 0.5) * (height / self.height)).astype(np.int64)
        columns = ((self.columns + 0.5) * (width / self.width)).astype(np.int64)
        return Anchors(rows, columns, self.depth, height, width)

    def image(self) -> NDArray[np.float32]:
        """As a sparse depth image: (height, width) metres, NaN where nothing was measured."""
        sparse = np.full((self.height, self.width), np.nan, np.float32)
        sparse[self.rows, self.columns] = self.depth
        return sparse


def anchors_from_depth(depth: NDArray[np.floating], most: int = MOST) -> Anchors:
    """Anchors of a depth image (H, W) in metres; NaN, infinite, zero and negative are no measurement.

    Of more than `most` measured pixels an even share is taken, the same ones each time.

    Raises:
        AnchorError: no pixel is measured, or the values can't be metres.
    """
    places = np.flatnonzero(np.isfinite(depth) & (depth > 0))
    if not len(places):
        raise AnchorError(
            f"none of the {depth.size} pixels of the anchors' depth image is valid (positive and finite)"
        )
    if len(places) > most:
        places = np.random.default_rng(0).choice(places, most, replace=False, shuffle=False)
    rows, columns = np.divmod(places, depth.shape[1])
    measured = depth[rows, columns].astype(np.float64)
    _check_unit(measured)
    return Anchors(rows, columns, measured, *depth.shape)


def anchors_from_points(points: Array, intrinsics: Intrinsics, most: int = MOST) -> Anchors:
    """Anchors of a point cloud (N, 3) in the camera's optical frame, metres.

    Points behind the camera, outside of the picture or not finite are left out. Of several in one
    pixel the nearest is kept: it hides the others.

    Raises:
        AnchorError: no point lies in the picture, or the values can't be metres.
    """
    points = points[np.isfinite(points).all(1)]
    points = points[points[:, 2] > 0]
    if len(points):
        _check_unit(points[:, 2])
    columns = np.rint(points[:, 0] / points[:, 2] * intrinsics.fx + intrinsics.cx)
    rows = np.rint(points[:, 1] / points[:, 2] * intrinsics.fy + intrinsics.cy)
    inside = (rows >= 0) & (rows < intrinsics.height) & (columns >= 0) & (columns < intrinsics.width)
    if not inside.any():
        raise AnchorError(
            f"none of the cloud's {len(points)} points in front of the camera lies in the picture; check the "
            "transform between cloud and camera"
        )
    sparse = np.full((intrinsics.height, intrinsics.width), np.inf)
    np.minimum.at(sparse, (rows[inside].astype(int), columns[inside].astype(int)), points[inside, 2])
    return anchors_from_depth(sparse, most)


def anchor_loss(depth: Tensor, anchors: Anchors) -> Tensor:
    """Mean robust error of ln depth at the anchors: a scalar.

    Charbonnier's sqrt(e^2 + c^2) - c: wrong anchors pull no harder than right ones. Where the depth is not
    valid nothing pulls.

    Args:
        depth: (B, H, W) metres, of the anchors' size.
        anchors: at least one.
    """
    measured = torch.from_numpy(anchors.depth).to(depth)  # (N,)
    predicted = anchors.at(depth)  # (B, N)
    valid = predicted.detach() > 0  # False for NaN, too
    error = torch.where(valid, predicted, measured).log() - measured.log()
    return ((error.square() + TOLERANCE**2).sqrt() - TOLERANCE).mean()


def _check_unit(depth: Array) -> None:
    median = float(np.median(depth))
    low, high = PLAUSIBLE
    if median > high:
        raise AnchorError(
            f"the median of the anchors' depth is {median:.0f} m: these look like millimetres; publish "
            "metres in 32FC1, or millimetres in 16UC1 (REP 118)"
        )
    if median < low:
        raise AnchorError(
            f"the median of the anchors' depth is {median:.4f} m: these look like metres taken for "
            "millimetres; publish metres in 32FC1, or millimetres in 16UC1 (REP 118)"
        )
