"""First guess of which samples are right: neighbouring samples vote for each other."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from redepth_ros.core.metric.samples import Samples

__all__ = ["initial_weights"]

POSITION_LENGTH = 0.07
"""Distance, in diagonals, at which a vote of one of 200 samples falls to 1/e; longer for fewer samples."""
DISPARITY_LENGTH = 3.3
"""Difference of standardised ln disparity over which votes fall."""
MIN_WIDTH, MAX_WIDTH = 0.04, 0.25
"""Limits of the difference of residuals up to which samples agree."""
MAX_HALF_RANGE = 3.0
"""Limit of the range of residuals that is searched for the best supported one, to each side."""
PRIOR_SUPPORT = 0.3
"""Support that gives a sample of median depth half a vote. It grows with the depth: wrong ranges are long
more often than short."""
MIN_WEIGHT = 1e-3


def initial_weights(samples: Samples) -> Tensor:
    """Return the first weight of each sample: (N,) in (0, 1].

    The support of a sample is the number of near samples with about its residual, over the largest support
    that any residual has at that position. Weights by the median of the residuals fail where half of the
    samples are wrong.
    """
    residual, count = samples.residual, len(samples)
    median = residual.median()
    stddev = 1.4826 * float((residual - median).abs().median())
    width = min(max(0.2 * stddev, MIN_WIDTH), MAX_WIDTH)
    half_range = min(8.0 * stddev + 0.5, MAX_HALF_RANGE)
    levels = torch.arange(-half_range, half_range + width, width) + median  # (L,)
    length = POSITION_LENGTH * math.sqrt(200.0 / max(count, 10))
    position = samples.features.position / length
    disparity = samples.features.disparity / DISPARITY_LENGTH
    proximity = (disparity[:, None] - disparity[None]).square_().mul_(-0.5)
    proximity = proximity.sub_(torch.cdist(position, position)).exp_().fill_diagonal_(0.0)  # (N, N)
    agreement = _gaussian(residual[:, None] - residual[None], width)  # (N, N)
    at_level = _gaussian(residual[:, None] - levels[None], width)  # (N, L)
    support = (proximity * agreement).sum(1) / ((proximity @ at_level).amax(1) + 1e-9)  # (N,)
    depth = samples.log_depth.exp()
    needed = PRIOR_SUPPORT * depth / depth.median()  # (N,)
    return (support / (support + needed)).clamp(MIN_WEIGHT, 1.0).square()


def _gaussian(difference: Tensor, width: float) -> Tensor:
    """Return exp(-difference^2 / (2 width^2)), in the place of the differences."""
    return difference.mul_(1.0 / width).square_().mul_(-0.5).exp_()
