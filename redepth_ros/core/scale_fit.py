"""The scale of a relative depth from what was measured, whatever else was measured wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.scale import Scale

__all__ = ["ScaleFit", "fit_scale"]

HYPOTHESES = 128
"""Lines through two anchors; with half of the anchors wrong a quarter of them are good."""
JUDGES = 400
"""Anchors that judge a line, at most."""
AGREEING = 0.4
"""Share of the anchors that must agree; so many residuals judge a line."""
REWEIGHTINGS = 8
TUKEY = 4.685
"""Residuals beyond so many deviations weigh nothing: 95 % as efficient as least squares for a
Gaussian (Holland and Welsch 1977)."""
WIDE, FEW_OUTLIERS = 8.0, 0.7
"""The same where more than so many anchors agree: what lies off is then more often the network's own
error, whose tails are long, than a wrong anchor, and belongs to the fit."""
LARGEST_DEVIATION = 0.25
"""Of ln depth at the anchors' own disparities; beyond it they determine nothing. Scale and shift alone may
be less certain than the depth that they give together."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScaleFit:
    """What a set of anchors says."""

    scale: Scale
    agreeing: float
    """Share of the anchors that agree, 0..1."""
    misfit: float
    """Standard deviation of the disparity's error at those, in 1 / metres."""


def fit_scale(
    disparity: Array, depth: Array, *, noise: float = 0.01, minimum: int = 30, fit_shift: bool = True
) -> ScaleFit:
    """Scale and shift by which a disparity gives the measured depth.

    1 / depth = (disparity + shift) / scale is linear in the disparity: RANSAC over pairs of anchors
    finds a line (Fischler and Bolles 1981), judged by the 40 % smallest residuals, and iteratively
    reweighted least squares with Tukey's weights refine it. The residuals' own deviation and the
    range noise give the weights and the covariance, which takes the residuals for independent.

    Args:
        disparity: (N,) at the anchors, larger when nearer; see `scale.disparity_of`.
        depth: (N,) metres, positive; anchors where either is not finite are left out.
        noise: standard deviation of the measured depth over itself.
        minimum: number of anchors below which nothing is fitted.
        fit_shift: whether the shift is free; if not, it is 0.

    Raises:
        AnchorError: the anchors do not determine the scale, and why.
    """
    usable = np.isfinite(disparity) & np.isfinite(depth) & (depth > 0)
    x, y = disparity[usable].astype(np.float64), 1.0 / depth[usable].astype(np.float64)
    if len(x) < minimum:
        raise AnchorError(f"{len(x)} anchors where there is depth; at least {minimum} are needed")
    low, middle, high = np.percentile(x, (10.0, 50.0, 90.0))
    if fit_shift and high - low < 0.02 * abs(middle):
        raise AnchorError(
            f"the anchors lie all at one depth (disparity {low:.3g} to {high:.3g}): they do not tell scale "
            "from shift; measure near and far"
        )
    line = _search(x, y, fit_shift)
    deviation = float(_quantile(np.abs(y - line[0] * x - line[1]), AGREEING)) / 0.524
    line, covariance, deviation = _reweight(x, y, noise, line, deviation, TUKEY, fit_shift)
    agreeing = float((np.abs(y - line[0] * x - line[1]) < 3.0 * np.hypot(deviation, noise * y)).mean())
    if agreeing > FEW_OUTLIERS:
        line, covariance, deviation = _reweight(x, y, noise, line, deviation, WIDE, fit_shift)
    return _judged(x, *line, covariance, agreeing, deviation)


def _reweight(
    x: Array, y: Array, noise: float, line: tuple[float, float], deviation: float, reach: float,
    fit_shift: bool,
) -> tuple[tuple[float, float], Array, float]:  # fmt: skip
    """Line, its covariance (2, 2), and the deviation of the disparity's own error in 1 / metres."""
    covariance: Array = np.zeros((2, 2))
    for _ in range(REWEIGHTINGS):
        spread = np.hypot(deviation, noise * y)  # (N,)
        residuals = y - line[0] * x - line[1]
        weights = np.square(np.clip(1.0 - np.square(residuals / (reach * spread)), 0.0, None))
        line, covariance = _least_squares(x, y, weights / spread**2, fit_shift)
        near = weights > 0
        total = 1.4826 * float(np.median(np.abs(y - line[0] * x - line[1])[near]))
        # The range noise is a part of the residuals; what is left is the network's.
        ranging = noise * float(np.median(y[near]))
        deviation = max(math.sqrt(max(total**2 - ranging**2, 0.0)), 1e-3 * total, 1e-9)
    return line, covariance, deviation


def _search(x: Array, y: Array, fit_shift: bool) -> tuple[float, float]:
    """The line, of some through two anchors (or one and the origin), that most anchors are near to."""
    rng = np.random.default_rng(0)
    order = np.argsort(x)
    if fit_shift:
        third = max(1, len(x) // 3)
        near = order[rng.integers(len(x) - third, len(x), HYPOTHESES)]
        far = order[rng.integers(0, third, HYPOTHESES)]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (y[near] - y[far]) / (x[near] - x[far])
        offsets = y[far] - slopes * x[far]
    else:
        chosen = rng.integers(0, len(x), HYPOTHESES)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = y[chosen] / x[chosen]
        offsets = np.zeros_like(slopes)
    usable = np.isfinite(slopes) & (slopes > 0)
    if not usable.any():
        raise AnchorError(
            "the anchors are nearer where the predicted depth is farther: they are of another view, or "
            "mirrored; check their frame and stamps"
        )
    slopes, offsets = slopes[usable], offsets[usable]
    judges = order[np.linspace(0, len(x) - 1, min(len(x), JUDGES)).astype(int)]
    residuals = np.abs(y[judges] - slopes[:, None] * x[judges] - offsets[:, None])  # (H, J)
    best = int(np.argmin(_quantile(residuals, AGREEING)))
    return float(slopes[best]), float(offsets[best])


def _quantile(values: Array, share: float) -> Array:
    """Along the last axis, without interpolation."""
    rank = int(share * (values.shape[-1] - 1))
    return np.partition(values, rank, axis=-1)[..., rank]


def _least_squares(x: Array, y: Array, weights: Array, fit_shift: bool) -> tuple[tuple[float, float], Array]:
    """Weighted line, (slope, offset), and its covariance (2, 2); weights are inverse variances."""
    total = weights.sum()
    centre = (weights * x).sum() / total if fit_shift and total > 0 else 0.0
    moment = (weights * (x - centre) ** 2).sum()
    if not total > 0 or not moment > 0:
        raise AnchorError("the anchors that agree lie all at one depth; measure near and far")
    slope = (weights * (x - centre) * y).sum() / moment
    offset = (weights * y).sum() / total - slope * centre if fit_shift else 0.0
    variance = 1.0 / moment
    of_offset = 1.0 / total + centre**2 * variance if fit_shift else 0.0
    mixed = -centre * variance
    return (float(slope), float(offset)), np.array([[variance, mixed], [mixed, of_offset]])


def _judged(
    x: Array, slope: float, offset: float, covariance: Array, agreeing: float, misfit: float
) -> ScaleFit:
    """The fit, or AnchorError where it is not one to go by."""
    if slope <= 0:
        raise AnchorError(
            "the anchors are nearer where the predicted depth is farther: they are of another view, or "
            "mirrored; check their frame and stamps"
        )
    if agreeing < AGREEING:
        raise AnchorError(
            f"only {agreeing:.0%} of {len(x)} anchors agree with one scale, and {AGREEING:.0%} are needed: "
            "they are of another view, or most of them are wrong; check their frame, stamps and calibration"
        )
    shift = offset / slope
    # scale = 1 / slope and shift = offset / slope, to first order.
    jacobian = np.array([[-1.0 / slope, 0.0], [-shift / slope, 1.0 / slope]])
    (scale_variance, mixed), (_, shift_variance) = jacobian @ covariance @ jacobian.T
    scale = Scale(1.0 / slope, shift, (float(scale_variance), float(mixed), float(shift_variance)))
    ends = torch.from_numpy(np.percentile(x, (10.0, 50.0, 90.0)))
    deviation = float(scale.variance_of_log_depth(ends).max().sqrt())
    if not deviation <= LARGEST_DEVIATION:
        raise AnchorError(
            f"{len(x)} anchors leave the depth uncertain by {deviation:.0%}: they lie too near to one depth, "
            "or scatter too much; measure near and far"
        )
    return ScaleFit(scale, agreeing, misfit)
