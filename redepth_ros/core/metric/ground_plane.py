"""The scale of depth from the camera's height over the ground."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale import Scale

__all__ = ["scale_from_height"]

SAMPLES = 1500
"""Pixels sampled in the lower half of the image."""
MIN_SAMPLES = 50
"""Samples with depth below which there is no search."""
HYPOTHESES = 200
"""Planes tried, each through three samples."""
TOLERANCE = 0.03
"""Relative error of the disparity within which a pixel belongs to the ground."""
MIN_GROUND_SHARE = 0.35
"""Share of the samples that must belong to the ground."""
MIN_DOWNWARD = math.cos(math.radians(50.0))
"""Smallest component of the ground's unit normal along the image's down direction."""
INDEPENDENT_PIXELS = 100
"""Number of independent errors on the ground: errors of neighbouring pixels are correlated."""

Array = NDArray[np.float64]


def scale_from_height(
    disparity: NDArray[np.floating], camera: PinholeCamera, height: float, shift: float = 0.0
) -> Scale:
    """Return the scale at which the ground plane is `height` below the camera.

    A plane n . X = h, seen along the ray r, has depth h / (n . r), so that disparity + shift =
    scale / h * (n . r): linear in the ray. RANSAC (Fischler and Bolles 1981) finds the plane among the
    pixels of the image's lower half; least squares refine it. The plane does not determine the
    shift, which must be known; it is 0 for a metric network.

    Args:
        disparity: (H, W) larger when nearer, NaN where unknown.
        camera: of the same size.
        height: of the camera over the ground, metres.
        shift: of the disparity, in its unit.

    Raises:
        AnchorError: no plane below the camera fills enough of the image's lower half.
    """
    rng = np.random.default_rng(0)
    rows = rng.integers(camera.height // 2, camera.height, SAMPLES)
    columns = rng.integers(0, camera.width, SAMPLES)
    inverse = disparity[rows, columns].astype(np.float64) + shift
    valid = np.isfinite(inverse) & (inverse > 0)
    inverse, rows, columns = inverse[valid], rows[valid], columns[valid]
    if len(inverse) < MIN_SAMPLES:
        raise AnchorError(
            f"only {len(inverse)} of {SAMPLES} pixels of the image's lower half have depth: "
            "the ground is not visible there; tilt the camera down, or use other anchors"
        )
    x, y = (columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy
    rays = np.stack((x, y, np.ones_like(x)), axis=1)  # (N, 3)
    planes = _sample_planes(rays, inverse, rng)  # (K, 3)
    errors = np.abs(planes @ rays.T - inverse) / inverse  # (K, N)
    plane = planes[np.argmax((errors < TOLERANCE).sum(1))] if len(planes) else np.zeros(3)
    ground: NDArray[np.bool_] = np.zeros(len(inverse), bool)
    for _ in range(3):
        ground = np.abs(rays @ plane - inverse) < TOLERANCE * inverse
        if ground.sum() < 3:
            break
        weights = 1.0 / inverse[ground, None]
        plane = np.linalg.lstsq(rays[ground] * weights, inverse[ground] * weights[:, 0], rcond=None)[0]
    length = float(np.linalg.norm(plane))
    if ground.mean() < MIN_GROUND_SHARE or plane[1] < MIN_DOWNWARD * length:
        raise AnchorError(
            f"{ground.mean():.0%} of the image's lower half lies on one plane below the camera; "
            f"camera_height needs {MIN_GROUND_SHARE:.0%}: check the parameter shift, or use other anchors"
        )
    stddev = TOLERANCE / math.sqrt(min(INDEPENDENT_PIXELS, int(ground.sum())))
    return Scale(length * height, shift, (stddev**2, 0.0, 0.0))


def _sample_planes(rays: Array, inverse: Array, rng: np.random.Generator) -> Array:
    """Return the planes through three random pixels each that face down: (K, 3)."""
    chosen = rng.integers(0, len(inverse), (HYPOTHESES, 3))
    triples, values = rays[chosen], inverse[chosen]  # (K, 3, 3), (K, 3)
    regular = np.abs(np.linalg.det(triples)) > 1e-6
    planes = np.linalg.solve(triples[regular], values[regular][..., None])[..., 0]
    down = planes[:, 1] > MIN_DOWNWARD * np.linalg.norm(planes, axis=1)
    found: Array = planes[down]
    return found
