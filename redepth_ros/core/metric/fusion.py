"""Fusion of a network's disparity with measured depth: metric depth and its standard deviation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import max_pool2d

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.detail import detail_of, evenly_spread
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.residual_gp import (
    FRAME_OFFSET,
    Correction,
    Samples,
    fit_correction,
    predict_mean,
    predict_spread,
)
from redepth_ros.core.metric.scale import Scale

__all__ = ["FusedDepth", "Source", "fuse_depth"]

Source = Literal["fused", "interpolated", "scaled"]

SPARSE = 3
"""Step of the grid on which the variance is computed, in grid cells."""
FEWEST = 8
"""Anchors below which nothing is corrected."""
MOST = 240
"""Samples of one Gaussian process; of more, some are taken, and all of them add detail."""
FARTHEST = 3.0
"""Base depth is limited to so many times the 98th percentile of the anchors' depth."""
DOUBTFUL = 0.15
"""Amplitude of the correction over the standard deviation of the anchors' ln depth, from which on the base of
the network is compared with a constant one."""
COVERING = 0.6
"""Standard deviation of ln disparity at the anchors over that of the image, below which the anchors see too
little of the image for that comparison."""
UNSEEN_ERROR = 0.1
"""Relative standard deviation of the global depth that no anchor has corrected."""
UNIT = 0.006
"""Error of ln depth beside an anchor."""
STRETCH, PIVOT, POWER = 0.64, 0.03, 0.25
"""Claimed over raw deviation: STRETCH at PIVOT, growing with this power: large errors have long tails."""


@dataclass(frozen=True)
class FusedDepth:
    """Metric depth of one image."""

    depth: Tensor
    """(H, W) metres, NaN where the disparity is NaN unless the source is "interpolated"."""
    stddev: Tensor
    """(H, W) metres, NaN where the depth is."""
    source: Source
    """"fused": network and anchors; "interpolated": anchors, without a global scale; "scaled": the global
    scale alone."""
    agreeing: float
    """Share of the anchors that agree with the result, [0, 1]; 1 without any."""
    correction: Correction | None = None
    """None where nothing was corrected."""


def fuse_depth(
    disparity: Tensor,
    anchors: Anchors | None,
    scale: Scale | None,
    *,
    image: Tensor | None = None,
    noise: float = 0.01,
    relative_error: float = UNSEEN_ERROR,
) -> FusedDepth:
    """Estimate metric depth and its standard deviation from a disparity and measured depth.

    The global scale gives the base. The correction of its ln depth is a robust Gaussian process over the
    anchors' residuals (`residual_gp`), computed on a coarse grid. Without a scale the base is constant: the
    anchors alone are interpolated, guided by disparity and colour. So they are where a constant base predicts
    the left-out anchors better than the network's.

    Args:
        disparity: (H, W) float32, larger when nearer; see `scale.disparity_from_output`.
        anchors: of the same size; None for a frame without any.
        scale: global scale of the disparity, None if it is not known.
        image: (H, W, 3) RGB, bytes or floats in [0, 1], which guides the correction.
        noise: relative standard deviation of the measured depth.
        relative_error: relative standard deviation of depth that no anchor corrects.

    Raises:
        AnchorError: neither a scale nor anchors.
    """
    frame = FrameFeatures(disparity, image)
    if frame.constant:
        scale = None
    samples, farthest = None, math.inf
    if anchors is not None and len(anchors):
        farthest = FARTHEST * float(np.percentile(anchors.depth, 98.0))
        samples = residual_samples(frame, anchors, scale)
    if samples is None or len(samples) < FEWEST:
        if scale is None:
            raise AnchorError(
                f"{0 if samples is None else len(samples)} anchors and no global scale: the depth is not "
                f"determined; at least {FEWEST} are needed"
            )
        return scaled_depth(disparity, scale, relative_error)
    correction = fit_correction(thinned(samples), noise, centred=scale is None)
    deviations = float(samples.log_depth.std()), float(samples.at.disparity.std())
    if scale is not None and correction.amplitude > DOUBTFUL * deviations[0] and deviations[1] > COVERING:
        assert anchors is not None
        # The network may tell less than nothing: its base must beat a constant one.
        others = residual_samples(frame, anchors, None)
        other = fit_correction(thinned(others), noise, centred=True)
        if other.evidence > correction.evidence:
            samples, correction, scale = others, other, None
    detail = detail_of(correction, samples, frame, noise) if len(samples) > MOST else None
    return apply_correction(frame, correction, scale, farthest, detail)


def thinned(samples: Samples) -> Samples:
    """Return at most MOST of the samples, spread like all of them."""
    return samples.chosen(evenly_spread(samples, MOST)) if len(samples) > MOST else samples


def residual_samples(frame: FrameFeatures, anchors: Anchors, scale: Scale | None) -> Samples:
    """Return the residuals of ln depth at anchors with a valid base; ln depth itself without a scale."""
    log_depth = torch.from_numpy(anchors.depth).float().log()  # (N,)
    base = torch.zeros_like(log_depth)
    if scale is not None:
        farthest = FARTHEST * float(np.percentile(anchors.depth, 98.0))
        base = _base(anchors.sample(frame.disparity), scale, farthest).log()
    keep = base.isfinite()
    at = frame.at(anchors)
    residual = log_depth - base
    return Samples(at, residual, log_depth, torch.zeros_like(residual)).chosen(keep)


def apply_correction(
    frame: FrameFeatures,
    correction: Correction,
    scale: Scale | None,
    farthest: float,
    detail: Tensor | None = None,
    *,
    fade: float = 1.0,
    offset: float = 0.0,
) -> FusedDepth:
    """Apply a correction to a frame's base depth.

    Args:
        farthest: metres at which the base is limited.
        detail: (rows, columns) of the grid, added to the correction.
        fade: correlation of the correction with the present frame, [0, 1]; below 1 for one that is carried.
        offset: added to ln depth.
    """
    mean = predict_mean(correction, frame.grid()).reshape(frame.rows, frame.columns)
    if detail is not None:
        mean = mean + detail
    mean = fade * mean + offset
    log_depth = mean
    if scale is not None:
        log_depth = mean + log_base(frame, scale, farthest).nan_to_num(0.0)
    factor = frame.upsampled(mean.exp())  # (H, W)
    relative = frame.upsampled(_relative_stddev(frame, correction, log_depth, fade))  # (H, W)
    if scale is None:
        return FusedDepth(factor, factor * relative, "interpolated", correction.agreeing, correction)
    depth = factor * _base(frame.disparity, scale, farthest)
    return FusedDepth(depth, depth * relative, "fused", correction.agreeing, correction)


def log_base(frame: FrameFeatures, scale: Scale, farthest: float) -> Tensor:
    """Return the base's ln depth at the grid cells: (rows, columns), NaN where the disparity is."""
    return _base(frame.sampled(), scale, farthest).log()


def _base(disparity: Tensor, scale: Scale, farthest: float) -> Tensor:
    """Global depth, at most `farthest`; NaN where the disparity is."""
    return scale.scale / (disparity + scale.shift).clamp_min(scale.scale / farthest)


def _relative_stddev(frame: FrameFeatures, correction: Correction, log_depth: Tensor, fade: float) -> Tensor:
    """Standard deviation of ln depth at the grid cells, calibrated: (rows, columns).

    The posterior variance grows with the surprise and the rejected share of the samples around; depth edges
    add the depth's range in their neighbourhood. Factors: Gaussian likelihood on the training pairs.
    """
    spread = predict_spread(correction, frame.grid(SPARSE))
    variance, surprise, rejected = (
        frame.to_grid(one, SPARSE) for one in (spread.variance, spread.surprise, spread.rejected)
    )  # (rows, columns) each
    near, around = (_range(log_depth, size).square() for size in (3, 7))
    amplitude = correction.amplitude**2
    raw = (
        UNIT**2
        + variance * (0.476 + 1.05 * surprise + 4.32 * rejected)
        + 0.0367 * near
        + around * (0.0017 + 0.022 * rejected)
        + amplitude * (0.0005 + 0.002 * rejected)
        + 3e-5 * surprise
    ).sqrt()
    deviation = STRETCH * raw * (raw / PIVOT).pow(POWER)
    if fade == 1.0:
        return deviation
    faded = (1.0 - fade**2) * (amplitude + correction.level**2) + FRAME_OFFSET**2
    return (deviation.square() + faded).sqrt()


def _range(values: Tensor, size: int) -> Tensor:
    """Largest less smallest value in windows of `size` cells around each cell of a map (H, W)."""
    both = torch.stack((values, -values))[:, None]
    return max_pool2d(both, size, 1, size // 2).sum(0)[0]


def scaled_depth(disparity: Tensor, scale: Scale, relative_error: float = UNSEEN_ERROR) -> FusedDepth:
    """Return the global depth alone."""
    depth = scale.depth(disparity)
    relative = (scale.log_depth_variance(disparity) + relative_error**2).sqrt()
    return FusedDepth(depth, depth * relative, "scaled", 1.0)
