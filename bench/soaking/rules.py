"""The rules of the soak, on plain numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "MAX_SILENCE",
    "Interval",
    "Life",
    "Rule",
    "longest_silence",
    "slope_per_hour",
    "worst_growth",
]

MAX_SILENCE = 2.0
"""Seconds without a message of the fast stream, beyond an injected pause."""
WARM_UP = 30.0
"""Seconds after its start that are left out of the slopes of a process."""

Interval = tuple[float, float]
Life = Sequence[tuple[float, float]]
"""Samples (seconds, value) of one process from its start to its end."""


@dataclass(frozen=True)
class Rule:
    """A rule and whether it was kept."""

    name: str
    measured: str
    limit: str
    kept: bool


def longest_silence(arrivals: Sequence[float], pauses: Sequence[Interval]) -> tuple[float, float]:
    """Return the longest time between two arrivals beyond the pauses, and when it began, seconds.

    Args:
        arrivals: times of the messages, rising; the last one may be the end of the measurement.
        pauses: when silence was injected, one after the other.
    """
    longest, began = 0.0, math.nan
    first = 0
    for start, end in itertools.pairwise(arrivals):
        while first < len(pauses) and pauses[first][1] <= start:
            first += 1
        silence = end - start
        for pause in pauses[first:]:
            if pause[0] >= end:
                break
            silence -= min(end, pause[1]) - max(start, pause[0])
        if silence > longest:
            longest, began = silence, start
    return longest, began


def _after_warm_up(life: Life) -> Life:
    return [sample for sample in life if sample[0] - life[0][0] >= WARM_UP]


def slope_per_hour(lives: Sequence[Life]) -> float:
    """Return the common slope of all lives of a process, 1 / hour; NaN if no life outlasts the warm-up.

    Each life has its own level: least squares with one slope and an offset for each life.
    """
    products = squares = 0.0
    for life in map(_after_warm_up, lives):
        if len(life) < 2:
            continue
        time = sum(t for t, _ in life) / len(life)
        level = sum(value for _, value in life) / len(life)
        products += sum((t - time) * (value - level) for t, value in life)
        squares += sum((t - time) ** 2 for t, _ in life)
    return 3600.0 * products / squares if squares else math.nan


def worst_growth(lives: Sequence[Life]) -> float:
    """Return the largest change within one life, from the first to the last tenth of its samples.

    The warm-up is left out; NaN if no life outlasts it.
    """
    worst = math.nan
    for life in map(_after_warm_up, lives):
        if len(life) < 2:
            continue
        count = max(1, len(life) // 10)
        values = [value for _, value in life]
        growth = sum(values[-count:]) / count - sum(values[:count]) / count
        worst = growth if math.isnan(worst) else max(worst, growth)
    return worst
