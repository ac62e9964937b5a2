"""Error of a predicted depth against a measured one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ImageError

__all__ = ["align_depth", "depth_errors"]

Array = NDArray[np.floating]


def _fit_line(source: Array, target: Array) -> Array:
    """The source scaled and shifted to its least-squares fit to the target: both (N,)."""
    design = np.stack((source, np.ones_like(source)), axis=1)  # (N, 2)
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    return np.asarray(design @ solution)


def align_depth(disparity: Array, truth: Array) -> Array:
    """Depth of a relative disparity in the truth's unit, as Re-Depth Anything evaluates it.

    Scale and shift of the disparity are fitted to 1 / truth, inverted, and scale and shift
    are fitted once more in depth, all by least squares.

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
    """The usual measures of depth error, over valid pixels.

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
