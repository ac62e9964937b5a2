"""Standard deviation of depth, pixel by pixel, and the limits of valid depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.metric.scale import Scale

__all__ = ["DepthLimits", "depth_stddev", "relative_gradient"]

EDGE_STDDEV = 0.5
"""Standard deviation of the position of an edge in a network's depth, pixels."""


def relative_gradient(depth: Tensor) -> Tensor:
    """Return the relative change of depth (..., H, W) from one pixel to the next.

    The larger one of both directions, by central differences. A flying pixel, which floats between a
    near and a far surface, has a large value on both sides. NaN beside an invalid pixel.
    """
    across, down = torch.gradient(depth.log(), dim=(-1, -2))
    return torch.maximum(across.abs(), down.abs())  # (..., H, W)


def depth_stddev(
    depth: Tensor, disparity: Tensor, scale: Scale, residual_stddev: float, assumed_relative_stddev: float
) -> Tensor:
    """Return the standard deviation of depth, in its unit; NaN where the depth is NaN.

    The sum of four independent parts, to first order: the scale's covariance, the disparity's error
    measured at the anchors, an assumed relative error, and edges that are half a pixel off.

    Args:
        depth, disparity: (H, W) each, of the same pixels.
        scale: relates the two, with its covariance.
        residual_stddev: standard deviation of 1 / depth at the anchors, 1 / metres; 0 without anchors.
        assumed_relative_stddev: relative standard deviation of the error that anchors do not show.
    """
    network = (residual_stddev * depth).square() + assumed_relative_stddev**2
    edges = (EDGE_STDDEV * relative_gradient(depth)).square().nan_to_num(0.0)
    return depth * (network + edges + scale.log_depth_variance(disparity)).sqrt()  # (H, W)


@dataclass(frozen=True)
class DepthLimits:
    """Limits beyond which depth is invalid."""

    min_depth: float = 0.0
    max_depth: float = 100.0
    """In the unit of the depth."""
    max_relative_stddev: float = 0.0
    """Largest standard deviation divided by the depth; 0 disables the check."""
    max_relative_gradient: float = 0.0
    """Largest relative change from pixel to pixel (flying pixels); 0 disables the check."""

    def apply(self, depth: Tensor, stddev: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Mask depth and its standard deviation, (H, W) each, with NaN outside the limits.

        Args:
            depth: NaN at infinity, not yet limited to a range: a pixel that floats between a near
                surface and one out of range could not be told any more.
            stddev: may be None where max_relative_stddev is 0.
        """
        if self.max_relative_stddev and stddev is not None:
            depth = torch.where(stddev <= self.max_relative_stddev * depth, depth, torch.nan)
        if self.max_relative_gradient:
            depth = torch.where(relative_gradient(depth) <= self.max_relative_gradient, depth, torch.nan)
        in_range = (depth > 0) & (depth >= self.min_depth) & (depth <= self.max_depth)
        depth = torch.where(in_range, depth, torch.nan)  # (H, W)
        return depth, None if stddev is None else torch.where(in_range, stddev, torch.nan)
