"""Standard deviation of fused depth: what the posterior variance leaves out, and its calibration."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from redepth_ros.core.metric.candidates import Candidate, predict_spread_average
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.residual_gp import FRAME_OFFSET

__all__ = ["relative_stddev"]

STEP = 3
"""Step of the cells at which the posterior variance is computed."""
FACTOR = 132.6
"""Factor on the product of powers."""
POWERS = (0.303, 0.227, 0.288, 0.377, 0.604, 0.032)
"""Powers of the posterior variance, the squared local range of ln depth, the squared error of the samples
nearby, the distance to the samples, the rejected share nearby, and the disagreement of the candidates."""
OFFSETS = (1e-6, 1e-5, 1e-5, 1e-2, 5e-2, 1e-5)
"""Added to those terms, so that none is 0."""
MIN_STDDEV, MAX_STDDEV = 0.0095, 0.7
"""Limits of the claim from the samples."""
COVERAGE_FACTOR = 0.74
"""Factor on the root mean square error: errors have long tails, so that most are smaller."""
UNKNOWN_STDDEV = 1.0
"""Standard deviation of ln depth far from all anchors, without a network's depth."""


def relative_stddev(
    frame: FrameFeatures,
    candidates: Sequence[Candidate],
    log_depth: Tensor,
    disagreement: Tensor,
    *,
    unseen_stddev: float,
    fade: float = 1.0,
) -> Tensor:
    """Return the relative standard deviation of fused depth at the grid cells: (rows, columns).

    A product of powers of six terms (see the constants), fitted to training pairs and rendered scenes, is the
    root mean square error where samples are near. Far from them the error of the depth without correction
    is added.

    Args:
        log_depth: (rows, columns) fused ln depth.
        disagreement: (rows, columns) variance of the candidates' ln depth.
        unseen_stddev: relative standard deviation of the network's depth where no anchor corrects it.
        fade: correlation of a carried correction with the present frame, [0, 1].
    """
    spread = predict_spread_average(candidates, frame.grid(STEP))
    coarse = torch.stack((spread.variance, spread.error, spread.distance, spread.rejected))
    variance, error, distance, rejected = frame.to_grid(coarse, STEP)  # (rows, columns) each
    terms = torch.stack((variance, _local_range(log_depth).square(), error, distance, rejected, disagreement))
    offsets, powers = (torch.tensor(values)[:, None, None] for values in (OFFSETS, POWERS))
    product = FACTOR * ((terms + offsets).log() * powers).sum(0).exp()
    near = (product / (1.0 + product / MAX_STDDEV)).square() + MIN_STDDEV**2  # (rows, columns)
    network = sum(one.share for one in candidates if one.base == "network")
    unknown = network * unseen_stddev**2 + (1.0 - network) * UNKNOWN_STDDEV**2
    total: Tensor = COVERAGE_FACTOR**2 * (near + unknown * distance.square().square())
    if fade < 1.0:
        prior = sum(one.share * (one.correction.amplitude**2 + one.correction.level**2) for one in candidates)
        total = total + (1.0 - fade**2) * prior + FRAME_OFFSET**2
    return total.sqrt()


def _local_range(values: Tensor) -> Tensor:
    """Return the largest less the smallest value of a map (H, W) around each of its cells, 3 x 3."""
    both = torch.stack((values, -values))[:, None]  # (2, 1, H, W)
    return max_pool2d(both, 3, 1, 1).sum(0)[0]
