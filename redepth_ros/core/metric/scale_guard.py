"""Guard of the global scale fit: detect a line that gives up a near surface for the one with most anchors."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError

__all__ = ["has_collapsed", "histogram", "lines_through_anchors", "misses_nearest", "support"]

HYPOTHESIS_COUNT = 128
"""Number of lines through two anchors. If half of the anchors are wrong, a quarter of the lines are right."""
NETWORK_ERRORS = (0.03, 0.06, 0.12, 0.25)
"""Relative errors of the network's disparity; the most probable one judges a line."""
MARGINAL_BINS = 20
"""Bins of the histogram of the anchors' disparity."""
MIN_LOSS = 0.03
"""Log-likelihood per anchor, nats, that a collapsed fit loses at least against the best line."""
NEAREST_SHARE, MAX_NEAREST_ERROR = 0.05, 0.1
"""Share of the anchors that counts as the nearest surface, and the largest error of its ln depth."""
MAX_ERROR, MIN_SHARE = 0.25, 0.75
"""The guard judges a fit only if this share of the anchors is within this relative error of the best line."""

Array = NDArray[np.float64]


def lines_through_anchors(x: Array, y: Array, fit_shift: bool) -> tuple[Array, Array]:
    """Return slopes and offsets (L,) of lines through two anchors, or through one and the origin.

    All slopes are positive.

    Raises:
        AnchorError: there is no such line.
    """
    rng = np.random.default_rng(0)
    order = np.argsort(x)
    if fit_shift:
        third = max(1, len(x) // 3)
        near = order[rng.integers(len(x) - third, len(x), HYPOTHESIS_COUNT)]
        far = order[rng.integers(0, third, HYPOTHESIS_COUNT)]
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = (y[near] - y[far]) / (x[near] - x[far])
        offsets = y[far] - slopes * x[far]
    else:
        index = rng.integers(0, len(x), HYPOTHESIS_COUNT)
        with np.errstate(divide="ignore", invalid="ignore"):
            slopes = y[index] / x[index]
        offsets = np.zeros_like(slopes)
    usable = np.isfinite(slopes) & (slopes > 0)
    if not usable.any():
        raise AnchorError(
            "the anchors are nearer where the predicted depth is farther: they are of another view, or "
            "mirrored; check their frame and stamps"
        )
    return slopes[usable], offsets[usable]


def support(x: Array, y: Array, noise: float, slopes: Array, offsets: Array) -> tuple[Array, Array]:
    """Return how well lines predict the disparity of the anchors from their depth.

    A line is judged by p(disparity | depth). The disparity of right anchors is normally distributed around
    (y - offset) / slope; wrong ones have the disparity of any anchor. A surface that holds most of the
    anchors makes its disparity common, so that it supports no line more than another, and a slope near 0
    predicts no disparity at all. With p(depth | disparity), a slope of 0 would fit a wall perfectly.

    Args:
        slopes, offsets: (L,) lines, slopes positive.

    Returns:
        (L,) log-likelihood less that without any line, for the best of NETWORK_ERRORS; and (L,) that error.
    """
    bins, counts = histogram(x)
    low, high = np.percentile(x, (1.0, 99.0))
    width = max(float(high - low), 1e-12) / MARGINAL_BINS
    marginal = counts[bins] / (counts.sum() * width)  # (N,)
    residuals = (y - offsets[:, None]) / slopes[:, None] - x  # (L, N)
    best: Array = np.full(len(slopes), -np.inf)
    errors: Array = np.full(len(slopes), NETWORK_ERRORS[0])
    for error in NETWORK_ERRORS:
        spread = math.hypot(error, noise) * y / slopes[:, None]  # (L, N)
        density = np.exp(-0.5 * np.square(residuals / spread)) / (math.sqrt(2.0 * math.pi) * spread)
        # Half of the anchors count as wrong: their share is unknown, and a free one would favour walls.
        total = np.log(0.5 + 0.5 * density / marginal).sum(-1)  # (L,)
        errors = np.where(total > best, error, errors)
        best = np.maximum(best, total)
    return best, errors


def histogram(x: Array) -> tuple[NDArray[np.int64], Array]:
    """Return the bin of each anchor (N,), and smoothed counts (MARGINAL_BINS,) of the anchors' disparity."""
    low, high = np.percentile(x, (1.0, 99.0))
    width = max(float(high - low), 1e-12) / MARGINAL_BINS
    bins = np.clip((x - low) / width, 0, MARGINAL_BINS - 1).astype(np.int64)
    counts = np.bincount(bins, minlength=MARGINAL_BINS).astype(np.float64)
    smoothed = np.convolve(np.pad(counts, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid")
    return bins, smoothed.astype(np.float64) + 0.5


def misses_nearest(x: Array, y: Array, line: tuple[float, float]) -> bool:
    """Return whether a line gives the nearest surface, by disparity, another depth than was measured."""
    nearest = np.argsort(x)[-max(5, round(NEAREST_SHARE * len(x))) :]
    ratio = np.log(np.maximum(line[0] * x[nearest] + line[1], 1e-9) / y[nearest])
    median = float(np.median(ratio))
    return abs(median) > MAX_NEAREST_ERROR and float(np.median(np.abs(ratio - median))) < abs(median) / 3.0


def has_collapsed(x: Array, y: Array, noise: float, line: tuple[float, float]) -> bool:
    """Return whether a fitted line gives up a near surface for the one that holds most anchors.

    Either another line predicts the anchors' disparity much better and gives the nearest surface another
    depth, or the nearest anchors agree on a depth that the line does not give them. If the best line leaves
    many anchors far off, the network can't be judged so: any line misses some surface.
    """
    if line[0] <= 0:
        return False  # refused later, with its own message
    slopes, offsets = lines_through_anchors(x, y, True)
    supports, _ = support(x, y, noise, slopes, offsets)
    best = int(np.argmax(supports))
    if (np.abs(y - slopes[best] * x - offsets[best]) < MAX_ERROR * y).mean() < MIN_SHARE:
        return False
    if misses_nearest(x, y, line):
        return True
    near = float(np.percentile(x, 100.0 * (1.0 - 0.5 * NEAREST_SHARE)))
    here, there = line[0] * near + line[1], slopes[best] * near + offsets[best]
    if here > 0 and there > 0 and abs(math.log(here / there)) < MAX_NEAREST_ERROR:
        return False
    own, _ = support(x, y, noise, np.array(line[:1]), np.array(line[1:]))
    return float(own[0]) < float(supports[best]) - MIN_LOSS * len(x)
