"""A scale that holds still: a Kalman filter over what the anchors of each frame say."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.metric.scale import Scale

__all__ = ["ScaleFilter"]

GATE = 13.8
"""Squared Mahalanobis distance that one in a thousand right measurements exceeds (two numbers)."""
JUMP = 4
"""Measurements in a row that together may show a jump."""
JUMP_GATE = 10.6
"""The distance of their mean from the state at which they do: one mean in two hundred is as far
without a jump, and beginning anew from four measurements then costs little."""
CONFIRMING = 3
"""Measurements in a row after which a lost scale counts as found again."""

Array = NDArray[np.float64]

SLOPE: Array = np.array([[1.0, 0.0], [0.0, 0.0]])
"""Where a factor on the disparity shows: it divides the slope, and the offset stays."""


class ScaleFilter:
    """State: slope and offset of `Scale.line`, in which every measurement is linear, however uncertain one is
    that saw a single depth. Times are seconds on any clock; one that goes back starts anew.

    A measurement is believed with its own covariance plus the network's `jitter`: its output may be a
    little larger in one frame than in the next, which multiplies scale and shift alike, and divides
    the slope. One outside the gate is left out. When the last few lie together off the state, the scale
    has jumped (another scene, zoom): the state begins anew from their mean. So a true jump shows within JUMP
    frames.
    """

    def __init__(self, *, jitter: float = 0.05, drift: float = 0.01, patience: float = 2.0) -> None:
        """Args:
        jitter: standard deviation of ln scale from frame to frame that is not to be followed; 0
            follows every measurement.
        drift: standard deviation by which ln scale wanders in a second.
        patience: seconds without a usable measurement after which the scale counts as lost.
        """
        self._jitter, self._drift, self._patience = jitter, drift, patience
        self._clear()

    def _clear(self) -> None:
        self._mean: Array | None = None  # (2,), the first positive
        self._covariance: Array = np.zeros((2, 2))
        self._recent: deque[tuple[Array, Array]] = deque(maxlen=JUMP)
        self._time = -math.inf
        self._accepted_at = -math.inf
        self._in_a_row = 0
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether there was no usable measurement for so long that the state is the last good one."""
        return self._lost

    @property
    def scale(self) -> Scale | None:
        """The scale now, None before the first measurement."""
        if self._mean is None:
            return None
        return Scale.of_line(float(self._mean[0]), float(self._mean[1]), self._covariance)

    @property
    def age(self) -> float:
        """Seconds from the last measurement that was believed to the last call."""
        return self._time - self._accepted_at

    def advance(self, time: float) -> None:
        """Let time pass: the state stays, its uncertainty grows."""
        if time < self._time:
            self._clear()
        if self._mean is not None:
            wander = self._drift**2 * max(0.0, time - self._time)
            self._covariance = self._covariance + wander * self._mean[0] ** 2 * SLOPE
            if time - self._accepted_at > self._patience:
                self._lost, self._in_a_row = True, 0
        self._time = time

    def update(self, time: float, measured: Scale) -> bool:
        """Take a frame's own scale into account; whether it was believed.

        Args:
            time: of the frame, not before that of the call before.
            measured: with its covariance, as `fit_scale` gives it.
        """
        self.advance(time)
        value, own = measured.line()
        if self._mean is None or not self._jitter:
            self._begin(value, own + self._jittered(value))
            return True
        self._recent.append((value, own))
        innovation, spread = value - self._mean, self._covariance + own + self._jittered(self._mean)
        believed = _distance(innovation, spread) < GATE
        if (jump := self._jump()) is not None:
            self._begin(*jump)
            return True
        if not believed:
            self._in_a_row = 0
            return False
        gain = self._covariance @ np.linalg.inv(spread)  # (2, 2)
        mean = self._mean + gain @ innovation
        if mean[0] <= 0.0:  # depth would grow with disparity
            return False
        self._mean = mean
        self._covariance = (np.eye(2) - gain) @ self._covariance
        self._accepted_at = self._time
        self._in_a_row += 1
        if self._in_a_row >= CONFIRMING:
            self._lost = False
        return True

    def _begin(self, mean: Array, covariance: Array) -> None:
        self._mean, self._covariance = mean, covariance
        self._recent.clear()
        self._accepted_at, self._in_a_row = self._time, CONFIRMING
        self._lost = False

    def _jump(self) -> tuple[Array, Array] | None:
        """Mean and covariance of the last measurements, if they agree with each other, not with the state."""
        assert self._mean is not None
        if len(self._recent) < JUMP:
            return None
        values, owns = zip(*self._recent, strict=True)
        mean: Array = np.mean(values, axis=0)
        jitter = self._jittered(mean)
        if any(_distance(value - mean, own + jitter) > GATE for value, own in self._recent):
            return None
        # Only the jitter averages out: what misleads one fit, such as a single depth in sight, misleads all.
        covariance = np.mean(owns, axis=0) + jitter / JUMP
        if _distance(mean - self._mean, self._covariance + covariance) < JUMP_GATE:
            return None
        return mean, covariance

    def _jittered(self, mean: Array) -> Array:
        """Covariance of a factor on the disparity from frame to frame."""
        return float(mean[0]) ** 2 * (self._jitter**2 * SLOPE + 1e-12 * np.eye(2))


def _distance(difference: Array, covariance: Array) -> float:
    """Squared Mahalanobis distance."""
    return float(difference @ np.linalg.solve(covariance, difference))
