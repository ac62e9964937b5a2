"""The scale of a depth network: from what it says to metres, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from redepth_ros.core.camera import depth_from_disparity

__all__ = ["Scale", "disparity_of"]


def disparity_of(output: Tensor, metric: bool) -> Tensor:
    """The disparity in a network's output: the output itself, or 1 / depth of a metric network.

    NaN where a metric network's depth is not positive.
    """
    if not metric:
        return output
    return depth_from_disparity(output)  # its own inverse


@dataclass(frozen=True)
class Scale:
    """Depth is `scale / (disparity + shift)`, see `disparity_of`.

    So a metric network's depth is multiplied by `scale` where `shift` is 0.
    """

    scale: float = 1.0
    """Metres times the disparity's unit; 1 of a metric network that is right."""
    shift: float = 0.0
    """In the disparity's unit."""
    covariance: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Var(ln scale), Cov(ln scale, shift), Var(shift)."""

    @property
    def relative_stddev(self) -> float:
        """Standard deviation of the scale over itself."""
        return math.sqrt(max(self.covariance[0], 0.0))

    @classmethod
    def of_line(cls, slope: float, offset: float, covariance: NDArray[np.float64]) -> Scale:
        """The scale of a line 1 / depth = slope * disparity + offset.

        Args:
            slope: positive.
            offset: in 1 / metres.
            covariance: of both, (2, 2), brought over to first order.
        """
        shift = offset / slope
        jacobian = np.array([[-1.0 / slope, 0.0], [-shift / slope, 1.0 / slope]])
        (one, mixed), (_, other) = jacobian @ covariance @ jacobian.T
        return cls(1.0 / slope, shift, (float(one), float(mixed), float(other)))

    def line(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(slope, offset) of that line, and their covariance (2, 2)."""
        slope, (one, mixed, other) = 1.0 / self.scale, self.covariance
        jacobian = np.array([[-slope, 0.0], [-slope * self.shift, slope]])
        covariance = jacobian @ np.array([[one, mixed], [mixed, other]]) @ jacobian.T
        return np.array([slope, slope * self.shift]), covariance

    def depth(self, disparity: Tensor) -> Tensor:
        """Depth of a disparity, of the same shape; NaN at or beyond infinity."""
        return depth_from_disparity(disparity, self.scale, self.shift)

    def variance_of_log_depth(self, disparity: Tensor) -> Tensor:
        """Var(ln depth) that the scale's covariance brings, of the disparity's shape.

        d ln z = d ln scale - d shift / (disparity + shift), to first order.
        """
        near = 1.0 / (disparity + self.shift)
        scale, mixed, shift = self.covariance
        return (scale - 2.0 * mixed * near + shift * near.square()).clamp_min(0.0)
