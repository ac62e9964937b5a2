"""Guards of the global scale fit: lines through anchors, and whether a fit gave up a near surface."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError

__all__ = ["has_collapsed", "histogram", "lines_through_anchors", "misses_nearest", "support"]

HYPOTHESES = 128
"""Lines through two anchors; with half of the anchors wrong a quarter of them are good."""
NETWORK_ERRORS = (0.03, 0.06, 0.12, 0.25)
"""Relative errors of the network's disparity that are tried where a line must predict the disparity."""
MARGINAL_BINS = 20
"""Bins of the histogram of the anchors' disparity."""
COLLAPSE = 0.03
"""Loss of log-likelihood per anchor, against the best line, from which on a fit counts as collapsed."""
NEAREST, NEAREST_ERROR = 0.05, 0.1
"""Share of the anchors with the largest disparity, and the error of their ln depth that a fit may leave."""
JUDGED_ERROR, JUDGED_SHARE = 0.25, 0.75
"""Share of the anchors that must be within this relative error of the best line for a fit to be judged."""

Array = NDArray[np.float64]


def lines_through_anchors(x: Array, y: Array, fit_shift: bool) -> tuple[Array, Array]:
    """Slopes and offsets of lines through two anchors, or one and the origin; all slopes are positive.

    Raises:
        AnchorError: there is no such line.
    """
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
    return slopes[usable], offsets[usable]


def support(x: Array, y: Array, noise: float, slopes: Array, offsets: Array) -> tuple[Array, Array]:
    """How well lines predict the disparity of the anchors from their depth.

    A line is judged by p(disparity | depth): right anchors lie normally around (y - offset) / slope, wrong
    ones have the disparity of any anchor. A surface that holds most of the anchors makes its own disparity
    common, so it supports no line more than another, and a slope near 0 predicts no disparity at all. The
    likelihood p(depth | disparity) has no such guard: there a slope of 0 fits a wall perfectly.

    Args:
        slopes, offsets: (L,) lines, slopes positive.

    Returns:
        (L,) log-likelihood over that of no line at all, with the best network error of NETWORK_ERRORS, and
        (L,) that error.
    """
    places, counts = histogram(x)
    low, high = np.percentile(x, (1.0, 99.0))
    width = max(float(high - low), 1e-12) / MARGINAL_BINS
    anything = counts[places] / (counts.sum() * width)  # (N,)
    residuals = (y - offsets[:, None]) / slopes[:, None] - x  # (L, N)
    best: Array = np.full(len(slopes), -np.inf)
    errors: Array = np.full(len(slopes), NETWORK_ERRORS[0])
    for error in NETWORK_ERRORS:
        spread = math.hypot(error, noise) * y / slopes[:, None]  # (L, N)
        density = np.exp(-0.5 * np.square(residuals / spread)) / (math.sqrt(2.0 * math.pi) * spread)
        # Half of each: the share of wrong anchors is not known, and must not pay for a wall alone.
        total = np.log(0.5 + 0.5 * density / anything).sum(-1)  # (L,)
        errors = np.where(total > best, error, errors)
        best = np.maximum(best, total)
    return best, errors


def histogram(x: Array) -> tuple[NDArray[np.int64], Array]:
    """Bin of each anchor (N,), and the smoothed counts (MARGINAL_BINS,) of the anchors' disparity."""
    low, high = np.percentile(x, (1.0, 99.0))
    width = max(float(high - low), 1e-12) / MARGINAL_BINS
    places = np.clip((x - low) / width, 0, MARGINAL_BINS - 1).astype(np.int64)
    counts = np.bincount(places, minlength=MARGINAL_BINS).astype(np.float64)
    smoothed = np.convolve(np.pad(counts, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    return places, smoothed.astype(np.float64) + 0.5


def misses_nearest(x: Array, y: Array, line: tuple[float, float]) -> bool:
    """Whether the nearest surface, by the disparity, is measured at another depth than a line gives it."""
    nearest = np.argsort(x)[-max(5, round(NEAREST * len(x))) :]
    ratio = np.log(np.maximum(line[0] * x[nearest] + line[1], 1e-9) / y[nearest])
    middle = float(np.median(ratio))
    return abs(middle) > NEAREST_ERROR and float(np.median(np.abs(ratio - middle))) < abs(middle) / 3.0


def has_collapsed(x: Array, y: Array, noise: float, line: tuple[float, float]) -> bool:
    """Whether a fitted line gives up a near surface to fit the one that holds most anchors.

    Either another line predicts the anchors' disparity far better and gives the nearest another depth, or
    the nearest anchors agree on a depth that the line does not give them. A network whose best line leaves
    many anchors far off can't be judged so: there any line misses some surface.
    """
    if line[0] <= 0:
        return False  # refused later, with its own words
    slopes, offsets = lines_through_anchors(x, y, True)
    supports, _ = support(x, y, noise, slopes, offsets)
    best = int(np.argmax(supports))
    if (np.abs(y - slopes[best] * x - offsets[best]) < JUDGED_ERROR * y).mean() < JUDGED_SHARE:
        return False
    if misses_nearest(x, y, line):
        return True
    near = float(np.percentile(x, 100.0 * (1.0 - 0.5 * NEAREST)))
    here, there = line[0] * near + line[1], slopes[best] * near + offsets[best]
    if here > 0 and there > 0 and abs(math.log(here / there)) < NEAREST_ERROR:
        return False
    own, _ = support(x, y, noise, np.array(line[:1]), np.array(line[1:]))
    return float(own[0]) < float(supports[best]) - COLLAPSE * len(x)
