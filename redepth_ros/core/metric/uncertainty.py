"""How far off a depth may be, pixel by pixel."""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.metric.scale import Scale

__all__ = ["depth_stddev", "edge_strength", "without_doubtful"]

EDGE_PIXELS = 0.5
"""Standard deviation, in pixels, of where a network sees an edge."""


def edge_strength(depth: Tensor) -> Tensor:
    """Relative change of the depth from one pixel to the next, of maps (..., H, W).

    The larger of both directions, by central differences. At a pixel that floats between a near and a
    far surface it is large on both sides. NaN beside a pixel that is not valid.
    """
    across, down = torch.gradient(depth.log(), dim=(-1, -2))
    return torch.maximum(across.abs(), down.abs())  # (..., H, W)


def depth_stddev(depth: Tensor, disparity: Tensor, scale: Scale, misfit: float, error: float) -> Tensor:
    """Standard deviation of a depth, in its own unit, NaN where the depth is.

    Four independent parts, to first order: the scale's covariance; the disparity's own error, which
    the anchors show; an error that no anchor shows, a share of the depth; and edges, which the network may
    see half a pixel beside their place.

    Args:
        depth, disparity: (H, W) each, of the same pixels.
        scale: by which one follows from the other, with its covariance.
        misfit: standard deviation of 1 / depth at the anchors, 1 / metres; 0 where there were none.
        error: relative standard deviation that is assumed besides.
    """
    own = (misfit * depth).square() + error * error
    edges = (EDGE_PIXELS * edge_strength(depth)).square().nan_to_num(0.0)
    return depth * (own + edges + scale.variance_of_log_depth(disparity)).sqrt()  # (H, W)


def without_doubtful(depth: Tensor, stddev: Tensor | None, most: float, steepest: float) -> Tensor:
    """The same depth, NaN where it is too uncertain or lies on an edge.

    Args:
        depth: (H, W), NaN at infinity, but not yet limited to a range: what floats between a near surface
            and one out of range could not be told any more.
        stddev: (H, W), or None where `most` is 0.
        most: largest standard deviation over the depth; 0 is any.
        steepest: largest relative change from pixel to pixel, so that none is left beside infinity; 0 is any.
    """
    if most and stddev is not None:
        depth = torch.where(stddev <= most * depth, depth, torch.nan)
    if steepest:
        depth = torch.where(edge_strength(depth) <= steepest, depth, torch.nan)
    return depth
