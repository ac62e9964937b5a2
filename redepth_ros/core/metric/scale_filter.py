"""A Kalman filter that keeps the scale steady from frame to frame."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.metric.scale import Scale

__all__ = ["ScaleFilter"]

GATE = 13.8
"""Squared Mahalanobis distance that one in a thousand valid measurements exceeds (two dimensions)."""
JUMP_LENGTH = 4
"""Consecutive measurements that together can show a jump."""
JUMP_GATE = 10.6
"""Squared Mahalanobis distance of their mean from the state that counts as a jump: one mean in
two hundred is as far off without a jump, and a restart from four measurements then costs little."""
RECOVERY_LENGTH = 3
"""Consecutive accepted measurements after which a lost scale counts as recovered."""

Array = NDArray[np.float64]

SLOPE: Array = np.array([[1.0, 0.0], [0.0, 0.0]])
"""Covariance direction of a factor on the disparity: it divides the slope, the offset stays."""


class ScaleFilter:
    """Kalman filter over slope and offset of `Scale.line`.

    Measurements are linear in this state, however uncertain a measurement of a single depth is. Times
    are seconds on any clock; a clock that jumps back starts anew.

    The network's output may be larger in one frame than in the next by a common factor. This
    `measurement_noise` is added to each measurement's covariance. A measurement outside the gate is rejected.
    When the last few measurements agree with each other but not with the state, the scale has jumped
    (another scene, zoom), and the filter restarts from their mean: a jump shows within JUMP_LENGTH frames.
    """

    def __init__(
        self, *, measurement_noise: float = 0.05, process_noise: float = 0.01, timeout: float = 2.0
    ) -> None:
        """Args:
        measurement_noise: standard deviation of ln scale from frame to frame; 0 disables the filter.
        process_noise: standard deviation by which ln scale drifts in a second.
        timeout: seconds without an accepted measurement after which the scale counts as lost.
        """
        self._measurement_noise, self._process_noise = measurement_noise, process_noise
        self._timeout = timeout
        self._clear()

    def _clear(self) -> None:
        self._mean: Array | None = None  # (2,), the first positive
        self._covariance: Array = np.zeros((2, 2))
        self._recent: deque[tuple[Array, Array]] = deque(maxlen=JUMP_LENGTH)
        self._time = -math.inf
        self._accepted_at = -math.inf
        self._accepted_in_a_row = 0
        self._lost = False

    @property
    def lost(self) -> bool:
        """Whether the last accepted measurement is older than the timeout."""
        return self._lost

    @property
    def scale(self) -> Scale | None:
        """The scale now; None before the first measurement."""
        if self._mean is None:
            return None
        return Scale.from_line(float(self._mean[0]), float(self._mean[1]), self._covariance)

    @property
    def age(self) -> float:
        """Seconds between the last accepted measurement and the last call."""
        return self._time - self._accepted_at

    def advance(self, time: float) -> None:
        """Predict the state at a time: it stays, its uncertainty grows."""
        if time < self._time:
            self._clear()
        if self._mean is not None:
            drift = self._process_noise**2 * max(0.0, time - self._time)
            self._covariance = self._covariance + drift * self._mean[0] ** 2 * SLOPE
            if time - self._accepted_at > self._timeout:
                self._lost, self._accepted_in_a_row = True, 0
        self._time = time

    def update(self, time: float, measured: Scale) -> bool:
        """Update the state with the scale of a frame; return whether it was accepted.

        Args:
            time: of the frame, not before that of the last call.
            measured: with its covariance, as `fit_scale` returns it.
        """
        self.advance(time)
        value, covariance = measured.line()
        if self._mean is None or not self._measurement_noise:
            self._restart(value, covariance + self._noise(value))
            return True
        self._recent.append((value, covariance))
        innovation, spread = value - self._mean, self._covariance + covariance + self._noise(self._mean)
        accepted = _distance(innovation, spread) < GATE
        if (jump := self._find_jump()) is not None:
            self._restart(*jump)
            return True
        if not accepted:
            self._accepted_in_a_row = 0
            return False
        gain = self._covariance @ np.linalg.inv(spread)  # (2, 2)
        mean = self._mean + gain @ innovation
        if mean[0] <= 0.0:  # depth would grow with disparity
            return False
        self._mean = mean
        self._covariance = (np.eye(2) - gain) @ self._covariance
        self._accepted_at = self._time
        self._accepted_in_a_row += 1
        if self._accepted_in_a_row >= RECOVERY_LENGTH:
            self._lost = False
        return True

    def _restart(self, mean: Array, covariance: Array) -> None:
        self._mean, self._covariance = mean, covariance
        self._recent.clear()
        self._accepted_at, self._accepted_in_a_row = self._time, RECOVERY_LENGTH
        self._lost = False

    def _find_jump(self) -> tuple[Array, Array] | None:
        """Return mean and covariance of the last measurements if they agree, but not with the state."""
        assert self._mean is not None
        if len(self._recent) < JUMP_LENGTH:
            return None
        values, covariances = zip(*self._recent, strict=True)
        mean: Array = np.mean(values, axis=0)
        noise = self._noise(mean)
        if any(_distance(value - mean, own + noise) > GATE for value, own in self._recent):
            return None
        # Only the noise averages out: a fit misled by a single visible depth is misled in each frame.
        covariance = np.mean(covariances, axis=0) + noise / JUMP_LENGTH
        if _distance(mean - self._mean, self._covariance + covariance) < JUMP_GATE:
            return None
        return mean, covariance

    def _noise(self, mean: Array) -> Array:
        """Return the covariance of the factor on the disparity from frame to frame."""
        return float(mean[0]) ** 2 * (self._measurement_noise**2 * SLOPE + 1e-12 * np.eye(2))


def _distance(difference: Array, covariance: Array) -> float:
    """Return the squared Mahalanobis distance."""
    return float(difference @ np.linalg.solve(covariance, difference))
