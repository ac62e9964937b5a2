"""The scale of a depth from the camera's height over the ground that it sees."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.metric.scale import Scale

__all__ = ["scale_from_height"]

SAMPLES = 1500
"""Pixels of the lower half that the ground is searched among."""
HYPOTHESES = 200
TOLERANCE = 0.03
"""Error of the disparity, over itself, within which a pixel lies on the ground."""
LEAST_SHARE = 0.35
"""Share of the lower half's pixels that must lie on the ground."""
STEEPEST = math.cos(math.radians(50.0))
"""Least part of the ground's normal along the image's own down direction."""


def scale_from_height(
    disparity: NDArray[np.floating], intrinsics: Intrinsics, height: float, shift: float = 0.0
) -> Scale:
    """The scale at which the plane that the camera stands on is as far below it as it is known to be.

    A plane n . X = h, seen along the ray r, has depth h / (n . r), so that disparity + shift =
    scale / h * (n . r): linear in the ray. RANSAC (Fischler and Bolles 1981) finds it among the pixels
    of the lower half, least squares refine it. The shift can't be told from the plane's slope, so it
    has to be known; it is 0 of a metric network.

    Args:
        disparity: (H, W) larger when nearer, NaN where unknown.
        intrinsics: of the same size.
        height: of the camera over the ground, metres.
        shift: of the disparity, in its unit.

    Raises:
        AnchorError: no plane below the camera fills enough of the picture's lower half.
    """
    rng = np.random.default_rng(0)
    rows = rng.integers(intrinsics.height // 2, intrinsics.height, SAMPLES)
    columns = rng.integers(0, intrinsics.width, SAMPLES)
    near = disparity[rows, columns].astype(np.float64) + shift
    usable = np.isfinite(near) & (near > 0)
    near, rows, columns = near[usable], rows[usable], columns[usable]
    if len(near) < 50:
        raise AnchorError(
            f"only {len(near)} of {SAMPLES} pixels of the picture's lower half have a depth: "
            "no ground is seen"
        )
    x, y = (columns - intrinsics.cx) / intrinsics.fx, (rows - intrinsics.cy) / intrinsics.fy
    rays = np.stack((x, y, np.ones_like(x)), axis=1)  # (N, 3)
    planes = _through_threes(rays, near, rng)  # (K, 3)
    errors = np.abs(planes @ rays.T - near) / near  # (K, N)
    plane = planes[np.argmax((errors < TOLERANCE).sum(1))] if len(planes) else np.zeros(3)
    ground: NDArray[np.bool_] = np.zeros(len(near), bool)
    for _ in range(3):
        ground = np.abs(rays @ plane - near) < TOLERANCE * near
        if ground.sum() < 3:
            break
        weights = 1.0 / near[ground, None]
        plane = np.linalg.lstsq(rays[ground] * weights, near[ground] * weights[:, 0], rcond=None)[0]
    length = float(np.linalg.norm(plane))
    if ground.mean() < LEAST_SHARE or plane[1] < STEEPEST * length:
        raise AnchorError(
            f"{ground.mean():.0%} of the picture's lower half lies on one plane below the camera; "
            f"{LEAST_SHARE:.0%} are needed to go by camera_height (is the shift right?)"
        )
    # Errors of neighbours are not independent; the plane is as good as a hundred of them.
    deviation = TOLERANCE / math.sqrt(min(100, int(ground.sum())))
    return Scale(length * height, shift, (deviation**2, 0.0, 0.0))


def _through_threes(
    rays: NDArray[np.float64], near: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.float64]:
    """Planes through three random pixels each, those that face down only: (K, 3)."""
    chosen = rng.integers(0, len(near), (HYPOTHESES, 3))
    triples, values = rays[chosen], near[chosen]  # (K, 3, 3), (K, 3)
    sound = np.abs(np.linalg.det(triples)) > 1e-6
    planes = np.linalg.solve(triples[sound], values[sound][..., None])[..., 0]
    down = planes[:, 1] > STEEPEST * np.linalg.norm(planes, axis=1)
    found: NDArray[np.float64] = planes[down]
    return found
