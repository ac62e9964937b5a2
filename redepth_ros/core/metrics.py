"""Errors of predicted depth against measured depth."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ImageError

__all__ = ["align_depth", "bootstrap_mean", "boundary_f1", "depth_errors", "normal_error"]

Array = NDArray[np.floating]


def _fit_line(source: Array, target: Array) -> Array:
    """Return the source, scaled and shifted to fit the target by least squares: (N,)."""
    design = np.stack((source, np.ones_like(source)), axis=1)  # (N, 2)
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.asarray(design @ solution)


def align_depth(disparity: Array, truth: Array) -> Array:
    """Align a relative disparity to measured depth, as Re-Depth Anything evaluates it.

    Fit scale and shift of the disparity to 1 / truth, invert it, and fit scale and shift once more
    in depth, both by least squares.

    Args:
        disparity: (N,) of the valid pixels, larger when nearer.
        truth: (N,) measured depth of the same pixels, positive.

    Returns:
        (N,) depth.

    Raises:
        ImageError: fewer than two pixels.
    """
    if truth.size < 2:
        raise ImageError(f"{truth.size} valid pixels: an alignment needs at least 2")
    fitted = _fit_line(disparity.astype(np.float64), 1.0 / truth.astype(np.float64))
    # A fit may cross zero, where depth flips its sign; the farthest truth bounds it.
    depth = 1.0 / np.maximum(fitted, 0.1 / truth.max())
    return _fit_line(depth, truth.astype(np.float64))


def depth_errors(depth: Array, truth: Array) -> dict[str, float]:
    """Return the usual measures of depth error over valid pixels.

    Args:
        depth: (N,) predicted, in the truth's unit.
        truth: (N,) measured, positive.

    Returns:
        abs_rel, sq_rel, rmse, rmse_log, log10, silog (x 100), delta1 to delta3 (shares of
        pixels whose ratio to the truth is within 1.25, 1.25^2, 1.25^3).
    """
    depth = np.maximum(depth.astype(np.float64), 1e-3)
    truth = truth.astype(np.float64)
    difference = depth - truth
    log_difference = np.log(depth) - np.log(truth)
    ratio = np.maximum(depth / truth, truth / depth)
    return {
        "abs_rel": float(np.mean(np.abs(difference) / truth)),
        "sq_rel": float(np.mean(difference**2 / truth)),
        "rmse": float(np.sqrt(np.mean(difference**2))),
        "rmse_log": float(np.sqrt(np.mean(log_difference**2))),
        "log10": float(np.mean(np.abs(log_difference)) / np.log(10.0)),
        "silog": float(np.std(log_difference) * 100.0),
        "delta1": float(np.mean(ratio < 1.25)),
        "delta2": float(np.mean(ratio < 1.25**2)),
        "delta3": float(np.mean(ratio < 1.25**3)),
    }


def boundary_f1(depth: Array, truth: Array) -> float:
    """Return the F1 score of depth edges, in [0, 1]; NaN where the truth has no edges.

    There is an edge between two neighbours whose depths differ by more than a ratio t. The score is
    the mean of F1 for t from 1.05 to 1.25, weighted by t. It does not depend on scale. Source:
    Bochkovskii et al., Depth Pro (2024), section on sharpness.

    Args:
        depth, truth: (H, W), NaN where invalid; pairs of neighbours are compared where both are valid.
    """
    found: list[tuple[float, float]] = []
    logs = [np.log(np.where(one > 0, one, np.nan)) for one in (depth, truth)]
    steps = [[np.diff(one, axis=axis) for one in logs] for axis in (0, 1)]
    for ratio in np.linspace(1.05, 1.25, 10):
        hits = predicted = actual = 0
        for ours, theirs in steps:
            both = np.isfinite(ours) & np.isfinite(theirs)
            for sign in (-1.0, 1.0):
                edges, true_edges = (both & (sign * one > np.log(ratio)) for one in (ours, theirs))
                hits += int((edges & true_edges).sum())
                predicted += int(edges.sum())
                actual += int(true_edges.sum())
        if actual:
            found.append((ratio, 2.0 * hits / (predicted + actual)))
    if not found:
        return float("nan")
    weights, scores = np.array(found).T
    return float(np.average(scores, weights=weights))


def normal_error(depth: Array, truth: Array, camera: PinholeCamera) -> float:
    """Return the mean angle between predicted and true normals, in degrees.

    Args:
        depth, truth: (H, W), NaN where invalid; such pixels and their neighbours are left out.
        camera: of the same size.
    """
    maps = torch.from_numpy(np.stack((depth, truth)).astype(np.float32))
    predicted, true = camera.normals(maps)  # (3, H, W) each
    cosine = (predicted * true).sum(0).clamp(-1.0, 1.0)
    return float(torch.rad2deg(torch.acos(cosine)).nanmean())


def bootstrap_mean(values: Array, draws: int = 10_000) -> tuple[float, float, float]:
    """Return the mean of values (N,) and its 95 % bootstrap interval.

    NaN values are left out; at least one value must be finite.
    """
    values = values[np.isfinite(values)]
    chosen = np.random.default_rng(0).integers(0, values.size, (draws, values.size))
    low, high = np.percentile(values[chosen].mean(axis=1), (2.5, 97.5))
    return float(values.mean()), float(low), float(high)
