"""The scale of a depth network: from what it says to metres, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from redepth_ros.core.geometry import depth_from_disparity

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

    def depth(self, disparity: Tensor) -> Tensor:
        """Depth of a disparity, of the same shape; NaN at or beyond infinity."""
        return depth_from_disparity(disparity, self.scale, self.shift)

    def disparity(self, depth: Tensor) -> Tensor:
        """The disparity that has this depth, of the same shape."""
        return self.scale / depth - self.shift

    def variance_of_log_depth(self, disparity: Tensor) -> Tensor:
        """Var(ln depth) that the scale's covariance brings, of the disparity's shape.

        d ln z = d ln scale - d shift / (disparity + shift), to first order.
        """
        near = 1.0 / (disparity + self.shift)
        scale, mixed, shift = self.covariance
        return (scale - 2.0 * mixed * near + shift * near.square()).clamp_min(0.0)
