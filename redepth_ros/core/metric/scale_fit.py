"""The scale of a relative depth from what was measured, whatever else was measured wrongly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_guard import (
    has_collapsed,
    histogram,
    lines_through_anchors,
    misses_nearest,
    support,
)

__all__ = ["ScaleFit", "check_unit", "fit_scale"]

JUDGES = 400
"""Anchors that judge a line, at most."""
NEAR = 0.1
"""Relative error beyond which all residuals judge a line alike."""
AGREEING = 0.4
"""Share of the anchors that must agree."""
EXPECTATIONS, REWEIGHTINGS = 12, 8
NETWORK_ERROR = 0.02
"""Relative error that every network's disparity has; a fit that trusted less would take its tails for wrong
anchors."""
WIDE, FEW_OUTLIERS = 8.0, 0.7
"""Where more than so many anchors agree, what lies off is more often the network's own error, whose tails are
long, than a wrong anchor, and belongs to the fit: only residuals beyond so many deviations weigh nothing."""
TIGHT = 3.0
"""Residuals beyond so many deviations weigh nothing in the fit with errors in both variables."""
SURFACES = 20.0
"""Independent errors of a network in one picture, as a bound on how certain a scale can be."""
THOUSANDFOLD = 300.0
"""Ratio of two scales from which on one of them is in millimetres."""
LARGEST_DILUTION = 5.0
"""Variance of the disparity's own error over that of the disparity, both at the anchors."""
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
    residual_stddev: float
    """Standard deviation of the disparity's error at those, in 1 / metres."""


def fit_scale(
    disparity: Array, depth: Array, *, noise: float = 0.01, minimum: int = 30, fit_shift: bool = True
) -> ScaleFit:
    """Scale and shift by which a disparity gives the measured depth.

    1 / depth = (disparity + shift) / scale is linear in the disparity: RANSAC over pairs of anchors
    finds a line (Fischler and Bolles 1981), judged by truncated squares (MSAC; Torr and Zisserman 2000).
    Iteratively reweighted least squares refine it: right anchors lie normally around it, wrong ones
    anywhere, and each weighs as probable as it is a right one (EM); where most are right, Tukey's weights
    follow. The residuals' own deviation and the range noise give the weights and the covariance, which
    takes the residuals for independent.

    The disparity's own error makes the slope too small (regression dilution), the more, the narrower the
    anchors' range: where they lie near to one depth, scale and shift may both be far off although the
    depth there is right. The covariance holds as much of that as the residuals show.

    Args:
        disparity: (N,) at the anchors, larger when nearer; see `scale.disparity_from_output`.
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
    nearest, usual, farthest = np.percentile(y, (90.0, 50.0, 10.0))
    if fit_shift and nearest - farthest < 4.0 * noise * usual:
        raise AnchorError(
            f"the anchors lie all at one depth ({1.0 / nearest:.3g} to {1.0 / farthest:.3g} m): they do not "
            "tell scale from shift; measure near and far"
        )
    line = _search(x, y, fit_shift)
    line, covariance, deviation, right = _expect(x, y, noise, line, fit_shift)
    if _agreeing(x, y, noise, line, deviation) > FEW_OUTLIERS:
        line, covariance, deviation, right = _reweight(x, y, noise, line, deviation, fit_shift)
    if fit_shift and has_collapsed(x, y, noise, line):
        line, covariance, deviation, right = _fit_both_errors(x, y, noise)
        if misses_nearest(x, y, line):
            raise AnchorError(
                "no scale and shift give both the nearest surface and the rest their measured depth: the "
                "scale is not determined; measure more of the near surface"
            )
    agreeing = _agreeing(x, y, noise, line, deviation)
    return _judged(x, *line, covariance, agreeing, deviation, right, fit_shift)


def check_unit(found: Scale, known: Scale) -> None:
    """Raise AnchorError if a scale is a thousand times what is known, or a thousandth of it."""
    ratio = found.scale / known.scale
    if not 1.0 / THOUSANDFOLD < ratio < THOUSANDFOLD:
        wrong, right = ("millimetres", "metres") if ratio > 1.0 else ("metres", "millimetres")
        raise AnchorError(
            f"by the anchors everything is {ratio:.3g} times as far as it was known to be: these look like "
            f"{wrong} taken for {right}; publish metres in 32FC1, or millimetres in 16UC1 (REP 118)"
        )


def _expect(
    x: Array, y: Array, noise: float, line: tuple[float, float], fit_shift: bool
) -> tuple[tuple[float, float], Array, float, Array]:
    """Line, its covariance (2, 2), the deviation of the disparity's own error in 1 / metres, and (N,) how
    probably each anchor is right."""
    lowest, highest = np.percentile(y, (2.0, 98.0))
    anywhere = 1.0 / max(float(highest - lowest), 1e-9)
    deviation = float(_quantile(np.abs(y - line[0] * x - line[1]), AGREEING)) / 0.524
    covariance: Array = np.zeros((2, 2))
    right, share = np.ones_like(x), FEW_OUTLIERS
    for _ in range(EXPECTATIONS):
        spread = np.hypot(deviation, max(noise, NETWORK_ERROR) * y)  # (N,)
        residuals = y - line[0] * x - line[1]
        density = np.exp(-0.5 * (residuals / spread) ** 2) / (math.sqrt(2.0 * math.pi) * spread)
        right = share * density / (share * density + (1.0 - share) * anywhere)  # (N,)
        share = min(max(float(right.mean()), 0.3), 0.99)
        line, covariance = _least_squares(x, y, right / spread**2, fit_shift)
        squares = right * (y - line[0] * x - line[1]) ** 2
        total = math.sqrt(float(squares.sum()) / max(float(right.sum()), 1e-9))
        deviation = _own(total, noise * float(np.median(y)))
    return line, covariance, deviation, right


def _reweight(
    x: Array, y: Array, noise: float, line: tuple[float, float], deviation: float, fit_shift: bool
) -> tuple[tuple[float, float], Array, float, Array]:
    """The same by Tukey's weights, which are the last."""
    covariance: Array = np.zeros((2, 2))
    weights = np.ones_like(x)
    for _ in range(REWEIGHTINGS):
        spread = np.hypot(deviation, noise * y)  # (N,)
        residuals = y - line[0] * x - line[1]
        weights = np.square(np.clip(1.0 - np.square(residuals / (WIDE * spread)), 0.0, None))  # (N,)
        line, covariance = _least_squares(x, y, weights / spread**2, fit_shift)
        near = weights > 0
        total = 1.4826 * float(np.median(np.abs(y - line[0] * x - line[1])[near]))
        deviation = _own(total, noise * float(np.median(y[near])))
    return line, covariance, deviation, weights


def _fit_both_errors(x: Array, y: Array, noise: float) -> tuple[tuple[float, float], Array, float, Array]:
    """The same as `_expect` by regression of the disparity on 1 / depth, from the best supported line.

    The network's error exceeds that of the measured depth, so this regression has no dilution. It starts
    from the line that predicts the disparity best, and keeps the network error of that line.
    """
    slopes, offsets = lines_through_anchors(x, y, True)
    supports, errors = support(x, y, noise, slopes, offsets)
    best = int(np.argmax(supports))
    line, error = (float(slopes[best]), float(offsets[best])), float(errors[best])
    spread = math.hypot(error, noise) * y  # (N,)
    # Each range of the disparity counts alike, or the surface that holds most anchors turns the line.
    places, counts = histogram(x)
    balance = 1.0 / counts[places]  # (N,)
    balance *= len(x) / balance.sum()
    weights = np.ones_like(x)
    covariance: Array = np.zeros((2, 2))
    for _ in range(REWEIGHTINGS):
        residuals = y - line[0] * x - line[1]
        weights = np.square(np.clip(1.0 - np.square(residuals / (TIGHT * spread)), 0.0, None))
        (inverse, start), covariance = _least_squares(y, x, balance * weights * (line[0] / spread) ** 2, True)
        if not inverse > 0:
            raise AnchorError("the anchors that agree lie all at one depth; measure near and far")
        line = 1.0 / inverse, -start / inverse
    jacobian = np.array([[-(line[0] ** 2), 0.0], [-line[0] * line[1], -line[0]]])
    covariance = jacobian @ covariance @ jacobian.T
    deviation = error * float(np.median(y[weights > 0]))
    # One surface has one error of the network, however many anchors lie on it.
    return line, covariance * max(1.0, float((weights > 0).sum()) / SURFACES), deviation, weights


def _own(total: float, ranging: float) -> float:
    """The network's part of the residuals' deviation, the range noise being the rest."""
    return max(math.sqrt(max(total**2 - ranging**2, 0.0)), 1e-3 * total, 1e-9)


def _agreeing(x: Array, y: Array, noise: float, line: tuple[float, float], deviation: float) -> float:
    """Share of the anchors within three deviations of a line."""
    return float((np.abs(y - line[0] * x - line[1]) < 3.0 * np.hypot(deviation, noise * y)).mean())


def _search(x: Array, y: Array, fit_shift: bool) -> tuple[float, float]:
    """The line, of some through two anchors (or one and the origin), that most anchors are near to."""
    slopes, offsets = lines_through_anchors(x, y, fit_shift)
    order = np.argsort(x)
    judges = order[np.linspace(0, len(x) - 1, min(len(x), JUDGES)).astype(int)]
    residuals = np.abs(y[judges] - slopes[:, None] * x[judges] - offsets[:, None])  # (H, J)
    # Truncated, not the smallest ones: a line must be near to both of two surfaces.
    best = int(np.argmin(np.square(np.minimum(residuals / (NEAR * y[judges]), 1.0)).mean(-1)))
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
    x: Array,
    slope: float,
    offset: float,
    covariance: Array,
    agreeing: float,
    residual_stddev: float,
    weights: Array,
    fit_shift: bool,
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
    ends = torch.from_numpy(np.percentile(x, (10.0, 50.0, 90.0)))
    deviation = float(Scale.from_line(slope, offset, covariance).log_depth_variance(ends).max().sqrt())
    if not deviation <= LARGEST_DEVIATION:
        raise AnchorError(
            f"{len(x)} anchors leave the depth uncertain by {deviation:.0%}: they lie too near to one depth, "
            "or scatter too much; measure near and far"
        )
    if fit_shift:
        covariance = covariance + _dilution(x, slope, residual_stddev, weights)
    return ScaleFit(Scale.from_line(slope, offset, covariance), agreeing, residual_stddev)


def _dilution(x: Array, slope: float, residual_stddev: float, weights: Array) -> Array:
    """By how much the disparity's own error may have made the slope too small, as a covariance (2, 2).

    Raises:
        AnchorError: by more than is of use.
    """
    centre = float(np.average(x, weights=weights))
    dilution = residual_stddev**2 / (slope**2 * float(np.average((x - centre) ** 2, weights=weights)))
    if dilution > LARGEST_DILUTION:
        raise AnchorError(
            f"the predicted depth's own error is {math.sqrt(dilution):.1f} times what it tells apart at the "
            "anchors: they lie too near to one depth; measure near and far"
        )
    # About the centre, where the line is right however steep it is.
    return (slope * dilution) ** 2 * np.array([[1.0, -centre], [-centre, centre**2]])
