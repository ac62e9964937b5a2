"""Simulated anchors: pixels of a true depth, drawn in the pattern of a sensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import MAX_ANCHORS, Anchors

__all__ = ["ANCHOR_PATTERNS", "OUTLIERS", "RANGE_NOISE", "AnchorSettings", "sample_anchors"]

RANGE_NOISE = 0.01
"""Relative standard deviation of the sampled depth."""
OUTLIERS = 0.1
"""Default of the share of sampled anchors that have a random depth."""

ANCHOR_PATTERNS = ("random", "lidar16", "lidar64", "corner")
"""Anywhere; on 16 or 64 rows of the image; in the lower left quarter of the image."""

FIRST_ROW, LAST_ROW = 0.05, 0.95
"""Of the lidar's scan lines, as shares of the image height."""


@dataclass(frozen=True)
class AnchorSettings:
    """Arguments of `sample_anchors`, as `redepth evaluate` has them."""

    count: int = 200
    """0 leaves out the methods with anchors."""
    pattern: str = "random"
    outliers: float = OUTLIERS

    def __post_init__(self) -> None:
        if not 0 <= self.count <= MAX_ANCHORS:
            raise ConfigError(f"--anchors is {self.count}; it must be in [0, {MAX_ANCHORS}]")
        if not 0.0 <= self.outliers <= 1.0:
            raise ConfigError(f"--outliers is {self.outliers}; it must be in [0, 1]")

    @property
    def explanation(self) -> str:
        """A sentence for the report."""
        return (
            f"The {self.count} anchors (pattern {self.pattern}) have {100 * RANGE_NOISE:g} % noise, and "
            f"{100 * self.outliers:g} % of them a random depth."
        )


def sample_anchors(
    truth: NDArray[np.float32],
    count: int,
    seed: int,
    *,
    pattern: str = "random",
    outliers: float = OUTLIERS,
) -> Anchors:
    """Draw measured pixels as anchors, with noise and outliers within the range of the true depth.

    Args:
        truth: (H, W), NaN where not measured.
        count: number of anchors; a pattern with fewer measured pixels gives all of them.
        seed: of the random numbers.
        pattern: one of `ANCHOR_PATTERNS`.
        outliers: share of the anchors that have a random depth, in [0, 1].

    Raises:
        ConfigError: the pattern has no measured pixel.
    """
    rng = np.random.default_rng(seed)
    allowed = np.flatnonzero(np.isfinite(truth) & _pattern_mask(pattern, *truth.shape))
    if not len(allowed):
        raise ConfigError(
            f"no pixel of the pattern {pattern!r} has a measured depth; choose another --anchor-pattern"
        )
    count = min(count, len(allowed))
    places = rng.choice(allowed, count, replace=False)
    measured = truth.flat[places] * (1.0 + RANGE_NOISE * rng.standard_normal(count))
    wrong = int(outliers * count)
    measured[:wrong] = rng.uniform(np.nanmin(truth), np.nanmax(truth), wrong)
    rows, columns = np.divmod(places, truth.shape[1])
    return Anchors(rows, columns, measured.astype(np.float64), *truth.shape)


def _pattern_mask(pattern: str, height: int, width: int) -> NDArray[np.bool_]:
    """Return the pixels (H, W) that a pattern may draw."""
    mask = np.zeros((height, width), np.bool_)
    if pattern == "random":
        mask[:] = True
    elif pattern == "corner":
        mask[height // 2 :, : width // 2] = True
    elif pattern in ("lidar16", "lidar64"):
        lines = int(pattern.removeprefix("lidar"))
        rows = np.linspace(FIRST_ROW, LAST_ROW, lines) * (height - 1)
        mask[np.unique(np.rint(rows).astype(int))] = True
    else:
        raise ConfigError(f"anchor pattern is {pattern!r}; it must be one of: {', '.join(ANCHOR_PATTERNS)}")
    return mask
