"""The scale of a depth network: from its output to metres, with its uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from redepth_ros.core.camera import depth_from_disparity

__all__ = ["Scale", "disparity_from_output"]


def disparity_from_output(output: Tensor, metric: bool) -> Tensor:
    """Return the disparity of a network's output: the output itself, or 1 / depth of a metric network.

    NaN where the depth of a metric network is not positive.
    """
    if not metric:
        return output
    return depth_from_disparity(output)  # its own inverse


@dataclass(frozen=True)
class Scale:
    """Depth is `scale / (disparity + shift)`, see `disparity_from_output`.

    With a shift of 0, the depth of a metric network is multiplied by `scale`.
    """

    scale: float = 1.0
    """Metres times the disparity's unit; 1 for a metric network without error."""
    shift: float = 0.0
    """In the disparity's unit."""
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Var(ln scale), Cov(ln scale, shift), Var(shift)."""

    @property
    def relative_stddev(self) -> float:
        """Relative standard deviation of the scale."""
        return math.sqrt(max(self.covariance[0], 0.0))

    @classmethod
    def from_line(cls, slope: float, offset: float, covariance: NDArray[np.float64]) -> Scale:
        """Make the scale of a line 1 / depth = slope * disparity + offset.

        Args:
            slope: positive.
            offset: in 1 / metres.
            covariance: of slope and offset, (2, 2); propagated to first order.
        """
        shift = offset / slope
        jacobian = np.array([[-1.0 / slope, 0.0], [-shift / slope, 1.0 / slope]])
        (var_scale, cov), (_, var_shift) = jacobian @ covariance @ jacobian.T
        return cls(1.0 / slope, shift, (float(var_scale), float(cov), float(var_shift)))

    def line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return (slope, offset) of that line and their covariance (2, 2)."""
        slope, (var_scale, cov, var_shift) = 1.0 / self.scale, self.covariance
        jacobian = np.array([[-slope, 0.0], [-slope * self.shift, slope]])
        covariance = jacobian @ np.array([[var_scale, cov], [cov, var_shift]]) @ jacobian.T
        return np.array([slope, slope * self.shift]), covariance

    def depth(self, disparity: Tensor) -> Tensor:
        """Return the depth of a disparity, of the same shape; NaN at or beyond infinity."""
        return depth_from_disparity(disparity, self.scale, self.shift)

    def log_depth_variance(self, disparity: Tensor) -> Tensor:
        """Return Var(ln depth) caused by the scale's covariance, of the disparity's shape.

        d ln z = d ln scale - d shift / (disparity + shift), to first order.
        """
        inverse = 1.0 / (disparity + self.shift)
        var_scale, cov, var_shift = self.covariance
        return (var_scale - 2.0 * cov * inverse + var_shift * inverse.square()).clamp_min(0.0)
