"""Scale and shift of a relative depth from measured depth, some of which is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

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

MAX_JUDGES = 400
"""Largest number of anchors by which a line is judged."""
TRUNCATION = 0.1
"""Relative error above which all residuals count alike in the search."""
MIN_AGREEING = 0.4
"""Share of the anchors that must agree."""
EM_ITERATIONS, TUKEY_ITERATIONS = 12, 8
MIN_NETWORK_ERROR = 0.02
"""Least relative error of a network's disparity. With a smaller one the fit takes the tails of the error for
wrong anchors."""
TUKEY_LIMIT, TUKEY_AGREEING = 8.0, 0.7
"""If more than this share of the anchors agrees, large residuals are more often errors of the network, which
have long tails, than wrong anchors. They belong to the fit: only residuals beyond so many standard deviations
have no weight."""
BOTH_ERRORS_LIMIT = 3.0
"""The same limit in the fit with errors in both variables."""
INDEPENDENT_ERRORS = 20.0
"""Number of independent errors of a network in one image; it limits the certainty of a scale."""
UNIT_RATIO = 300.0
"""Ratio of two scales above which one of them is in millimetres."""
MAX_DILUTION = 5.0
"""Largest variance of the disparity's error divided by the variance of the disparity, both at the anchors."""
MAX_LOG_DEPTH_STDDEV = 0.25
"""Largest standard deviation of ln depth at the anchors. Scale and shift alone may be less certain than the
depth that they give together."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ScaleFit:
    """Result of a fit to anchors."""

    scale: Scale
    agreeing: float
    """Share of the anchors that agree, [0, 1]."""
    residual_stddev: float
    """Standard deviation of the disparity's error at those anchors, 1 / metres."""


class LineFit(NamedTuple):
    """A line 1 / depth = slope * disparity + offset, fitted to N anchors."""

    line: tuple[float, float]
    """Slope and offset."""
    covariance: Array
    """(2, 2) of slope and offset."""
    stddev: float
    """Standard deviation of the disparity's error, 1 / metres."""
    weights: Array
    """(N,) in [0, 1], 0 for a wrong anchor."""


def fit_scale(
    disparity: Array, depth: Array, *, noise: float = 0.01, minimum: int = 30, fit_shift: bool = True
) -> ScaleFit:
    """Fit scale and shift so that the disparity gives the measured depth.

    1 / depth = (disparity + shift) / scale is linear in the disparity. RANSAC over pairs of anchors finds a
    line (Fischler and Bolles 1981), judged by truncated squares (MSAC; Torr and Zisserman 2000). Expectation
    and maximisation refine it: right anchors are normally distributed around the line, wrong ones uniformly,
    and the weight of an anchor is the probability that it is right. If most are right, iterations with
    Tukey's weights follow. The standard deviation of the residuals and the range noise give the weights and
    the covariance, for independent residuals.

    The disparity's error makes the slope too small (regression dilution), and more so for a narrow range of
    anchors: if they are all near one depth, scale and shift can both be wrong although the depth there is
    right. The covariance contains this effect as far as the residuals show it. If the line gives up a near
    surface for one that holds most anchors (`scale_guard`), it is fitted anew with errors in both variables.

    Args:
        disparity: (N,) at the anchors, larger when nearer; see `scale.disparity_from_output`.
        depth: (N,) metres, positive. Anchors with a value that is not finite are left out.
        noise: relative standard deviation of the measured depth.
        minimum: least number of anchors.
        fit_shift: whether the shift is free; otherwise it is 0.

    Raises:
        AnchorError: the anchors do not determine the scale; the message says why.
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
    fit = _fit_mixture(x, y, noise, _search(x, y, fit_shift), fit_shift)
    if _agreeing_share(x, y, noise, fit) > TUKEY_AGREEING:
        fit = _fit_tukey(x, y, noise, fit, fit_shift)
    if fit_shift and has_collapsed(x, y, noise, fit.line):
        fit = _fit_both_errors(x, y, noise)
        if misses_nearest(x, y, fit.line):
            raise AnchorError(
                "no scale and shift give both the nearest surface and the rest their measured depth: the "
                "scale is not determined; measure more of the near surface"
            )
    return _checked(x, fit, _agreeing_share(x, y, noise, fit), fit_shift)


def check_unit(found: Scale, known: Scale) -> None:
    """Compare a scale with a known one.

    Raises:
        AnchorError: they differ by a factor of about 1000, so that one of them is in millimetres.
    """
    ratio = found.scale / known.scale
    if not 1.0 / UNIT_RATIO < ratio < UNIT_RATIO:
        wrong, right = ("millimetres", "metres") if ratio > 1.0 else ("metres", "millimetres")
        raise AnchorError(
            f"by the anchors everything is {ratio:.3g} times as far as it was known to be: these look like "
            f"{wrong} taken for {right}; publish metres in 32FC1, or millimetres in 16UC1 (REP 118)"
        )


def _fit_mixture(x: Array, y: Array, noise: float, line: tuple[float, float], fit_shift: bool) -> LineFit:
    """Return the line after expectation and maximisation over right and wrong anchors."""
    lowest, highest = np.percentile(y, (2.0, 98.0))
    outlier_density = 1.0 / max(float(highest - lowest), 1e-9)
    stddev = float(_quantile(np.abs(_residuals(x, y, line)), MIN_AGREEING)) / 0.524
    covariance: Array = np.zeros((2, 2))
    right, share = np.ones_like(x), TUKEY_AGREEING
    for _ in range(EM_ITERATIONS):
        spread = np.hypot(stddev, max(noise, MIN_NETWORK_ERROR) * y)  # (N,)
        density = np.exp(-0.5 * (_residuals(x, y, line) / spread) ** 2) / (math.sqrt(2.0 * math.pi) * spread)
        right = share * density / (share * density + (1.0 - share) * outlier_density)  # (N,)
        share = min(max(float(right.mean()), 0.3), 0.99)
        line, covariance = _least_squares(x, y, right / spread**2, fit_shift)
        squares = right * _residuals(x, y, line) ** 2
        total = math.sqrt(float(squares.sum()) / max(float(right.sum()), 1e-9))
        stddev = _network_stddev(total, noise * float(np.median(y)))
    return LineFit(line, covariance, stddev, right)


def _fit_tukey(x: Array, y: Array, noise: float, fit: LineFit, fit_shift: bool) -> LineFit:
    """Return a fit after iterations with Tukey's weights."""
    for _ in range(TUKEY_ITERATIONS):
        spread = np.hypot(fit.stddev, noise * y)  # (N,)
        weights = _tukey_weights(_residuals(x, y, fit.line) / (TUKEY_LIMIT * spread))
        line, covariance = _least_squares(x, y, weights / spread**2, fit_shift)
        used = weights > 0
        total = 1.4826 * float(np.median(np.abs(_residuals(x, y, line))[used]))
        fit = LineFit(line, covariance, _network_stddev(total, noise * float(np.median(y[used]))), weights)
    return fit


def _fit_both_errors(x: Array, y: Array, noise: float) -> LineFit:
    """Return the regression of the disparity on 1 / depth, from the line that predicts the disparity best.

    The network's error exceeds that of the measured depth, so this regression has no dilution. It keeps the
    network error of the first line.
    """
    slopes, offsets = lines_through_anchors(x, y, True)
    supports, errors = support(x, y, noise, slopes, offsets)
    best = int(np.argmax(supports))
    line, error = (float(slopes[best]), float(offsets[best])), float(errors[best])
    spread = math.hypot(error, noise) * y  # (N,)
    # All ranges of the disparity have the same weight: the surface that holds most anchors must not turn
    # the line.
    bins, counts = histogram(x)
    balance = 1.0 / counts[bins]  # (N,)
    balance *= len(x) / balance.sum()
    weights = np.ones_like(x)
    covariance: Array = np.zeros((2, 2))
    for _ in range(TUKEY_ITERATIONS):
        weights = _tukey_weights(_residuals(x, y, line) / (BOTH_ERRORS_LIMIT * spread))
        (inverse, start), covariance = _least_squares(y, x, balance * weights * (line[0] / spread) ** 2, True)
        if not inverse > 0:
            raise AnchorError("the anchors that agree lie all at one depth; measure near and far")
        line = 1.0 / inverse, -start / inverse
    jacobian = np.array([[-(line[0] ** 2), 0.0], [-line[0] * line[1], -line[0]]])
    covariance = jacobian @ covariance @ jacobian.T
    # A surface has one error of the network, however many anchors lie on it.
    covariance *= max(1.0, float((weights > 0).sum()) / INDEPENDENT_ERRORS)
    return LineFit(line, covariance, error * float(np.median(y[weights > 0])), weights)


def _residuals(x: Array, y: Array, line: tuple[float, float]) -> Array:
    """Return y minus the line: (N,)."""
    return y - line[0] * x - line[1]


def _tukey_weights(scaled_residuals: Array) -> Array:
    """Return Tukey's biweight: (N,) in [0, 1], 0 for residuals beyond 1."""
    weights: Array = np.square(np.clip(1.0 - np.square(scaled_residuals), 0.0, None))
    return weights


def _network_stddev(total: float, range_noise: float) -> float:
    """Return the network's part of the residuals' standard deviation; the rest is range noise."""
    return max(math.sqrt(max(total**2 - range_noise**2, 0.0)), 1e-3 * total, 1e-9)


def _agreeing_share(x: Array, y: Array, noise: float, fit: LineFit) -> float:
    """Return the share of the anchors within three standard deviations of a line."""
    limit = 3.0 * np.hypot(fit.stddev, noise * y)
    return float((np.abs(_residuals(x, y, fit.line)) < limit).mean())


def _search(x: Array, y: Array, fit_shift: bool) -> tuple[float, float]:
    """Return the line through two anchors (or one and the origin) that is near to most anchors."""
    slopes, offsets = lines_through_anchors(x, y, fit_shift)
    order = np.argsort(x)
    judges = order[np.linspace(0, len(x) - 1, min(len(x), MAX_JUDGES)).astype(int)]
    residuals = np.abs(y[judges] - slopes[:, None] * x[judges] - offsets[:, None])  # (H, J)
    # Truncated squares, not the smallest ones: a line must be near to both of two surfaces.
    best = int(np.argmin(np.square(np.minimum(residuals / (TRUNCATION * y[judges]), 1.0)).mean(-1)))
    return float(slopes[best]), float(offsets[best])


def _quantile(values: Array, share: float) -> Array:
    """Return a quantile along the last axis, without interpolation."""
    rank = int(share * (values.shape[-1] - 1))
    return np.partition(values, rank, axis=-1)[..., rank]


def _least_squares(x: Array, y: Array, weights: Array, fit_shift: bool) -> tuple[tuple[float, float], Array]:
    """Return the weighted line (slope, offset) and its covariance (2, 2); weights are inverse variances."""
    total = weights.sum()
    centre = (weights * x).sum() / total if fit_shift and total > 0 else 0.0
    moment = (weights * (x - centre) ** 2).sum()
    if not total > 0 or not moment > 0:
        raise AnchorError("the anchors that agree lie all at one depth; measure near and far")
    slope = (weights * (x - centre) * y).sum() / moment
    offset = (weights * y).sum() / total - slope * centre if fit_shift else 0.0
    variance = 1.0 / moment
    offset_variance = 1.0 / total + centre**2 * variance if fit_shift else 0.0
    covariance = -centre * variance
    return (float(slope), float(offset)), np.array([[variance, covariance], [covariance, offset_variance]])


def _checked(x: Array, fit: LineFit, agreeing: float, fit_shift: bool) -> ScaleFit:
    """Return the result of a fit.

    Raises:
        AnchorError: the fit is not usable.
    """
    (slope, offset), covariance = fit.line, fit.covariance
    if slope <= 0:
        raise AnchorError(
            "the anchors are nearer where the predicted depth is farther: they are of another view, or "
            "mirrored; check their frame and stamps"
        )
    if agreeing < MIN_AGREEING:
        raise AnchorError(
            f"only {agreeing:.0%} of {len(x)} anchors agree with one scale, and {MIN_AGREEING:.0%} are "
            "needed: they are of another view, or most of them are wrong; check their frame, stamps and "
            "calibration"
        )
    ends = torch.from_numpy(np.percentile(x, (10.0, 50.0, 90.0)))
    deviation = float(Scale.from_line(slope, offset, covariance).log_depth_variance(ends).max().sqrt())
    if not deviation <= MAX_LOG_DEPTH_STDDEV:
        raise AnchorError(
            f"{len(x)} anchors leave the depth uncertain by {deviation:.0%}: they lie too near to one depth, "
            "or scatter too much; measure near and far"
        )
    if fit_shift:
        covariance = covariance + _dilution(x, fit)
    return ScaleFit(Scale.from_line(slope, offset, covariance), agreeing, fit.stddev)


def _dilution(x: Array, fit: LineFit) -> Array:
    """Return the covariance (2, 2) of the slope's bias, which the disparity's error causes.

    Raises:
        AnchorError: the bias is too large.
    """
    slope = fit.line[0]
    centre = float(np.average(x, weights=fit.weights))
    variance = float(np.average((x - centre) ** 2, weights=fit.weights))
    dilution = fit.stddev**2 / (slope**2 * variance)
    if dilution > MAX_DILUTION:
        raise AnchorError(
            f"the predicted depth's own error is {math.sqrt(dilution):.1f} times what it tells apart at the "
            "anchors: they lie too near to one depth; measure near and far"
        )
    # About the centre: the line is right there, whatever its slope.
    return (slope * dilution) ** 2 * np.array([[1.0, -centre], [-centre, centre**2]])
