"""Fusion of a network's disparity with measured depth: metric depth and its standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.candidates import Candidate, fit_candidates, predict_candidates
from redepth_ros.core.metric.detail import smooth_detail
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.fusion_stddev import relative_stddev
from redepth_ros.core.metric.samples import Samples, spread_indices
from redepth_ros.core.metric.scale import Scale

__all__ = ["FusedDepth", "Source", "fuse_depth"]

Source = Literal["fused", "interpolated", "scaled"]

MIN_ANCHORS = 8
"""Number of anchors below which nothing is corrected."""
MAX_SAMPLES = 240
"""Samples of one Gaussian process. Of more, a subset is taken, and all of them add detail."""
MAX_DEPTH_RATIO = 3.0
"""Largest depth of the base divided by the 98th percentile of the anchors' depth."""
MAX_DEVIATION = 6.0
"""Errors beyond so many standard deviations count as wrong samples in the detail."""
UNSEEN_STDDEV = 0.1
"""Relative standard deviation of the global depth where no anchor corrects it."""


@dataclass(frozen=True)
class FusedDepth:
    """Metric depth of one image."""

    depth: Tensor
    """(H, W) metres; NaN where the disparity is NaN, unless the network's depth has no share in it."""
    stddev: Tensor
    """(H, W) metres, NaN where the depth is NaN."""
    source: Source
    """"fused": mainly the network's depth, corrected by anchors; "interpolated": mainly the anchors, without
    the network's depth; "scaled": the global scale alone."""
    agreeing: float
    """Share of the anchors that agree with the result, [0, 1]; 1 without any."""
    candidates: tuple[Candidate, ...] = ()
    """Models that were averaged; empty if nothing was corrected."""


def fuse_depth(
    disparity: Tensor,
    anchors: Anchors | None,
    scale: Scale | None,
    *,
    image: Tensor | None = None,
    noise: float = 0.01,
    relative_error: float = UNSEEN_STDDEV,
) -> FusedDepth:
    """Estimate metric depth and its standard deviation from a disparity and measured depth.

    The global scale gives the base. A robust Gaussian process over the anchors' residuals corrects its ln
    depth on a coarse grid (`residual_gp`). If the network's depth needs a large correction, models with a
    constant base are fitted too, and averaged by their evidence (`candidates`). Without a scale they are
    the only ones: the anchors alone are interpolated, guided by disparity and color.

    Args:
        disparity: (H, W) float32, larger when nearer; see `scale.disparity_from_output`.
        anchors: of the same size; None for a frame without any.
        scale: global scale of the disparity, None if unknown.
        image: (H, W, 3) RGB, uint8 or floats in [0, 1], which guides the correction.
        noise: relative standard deviation of the measured depth.
        relative_error: relative standard deviation of depth that no anchor corrects.

    Raises:
        AnchorError: neither a scale nor enough anchors.
    """
    frame = FrameFeatures(disparity, image)
    if frame.constant:
        scale = None
    samples = None
    max_depth = math.inf
    if anchors is not None and len(anchors):
        max_depth = max_base_depth(anchors)
        samples = residual_samples(frame, anchors, scale)
    if samples is None or len(samples) < MIN_ANCHORS:
        if scale is None:
            raise AnchorError(
                f"{0 if samples is None else len(samples)} anchors and no global scale: the depth is not "
                f"determined; at least {MIN_ANCHORS} are needed"
            )
        return scaled_depth(disparity, scale, relative_error)
    candidates = fit_candidates(subset(samples), noise, network=scale is not None)
    return apply_candidates(
        frame, candidates, scale, max_depth, samples=samples, noise=noise, relative_error=relative_error
    )


def max_base_depth(anchors: Anchors) -> float:
    """Return the depth in metres at which the base is limited, given at least one anchor."""
    return MAX_DEPTH_RATIO * float(np.percentile(anchors.depth, 98.0))


def subset(samples: Samples) -> Samples:
    """Return at most MAX_SAMPLES of the samples, distributed like all of them."""
    return samples.select(spread_indices(samples, MAX_SAMPLES)) if len(samples) > MAX_SAMPLES else samples


def residual_samples(frame: FrameFeatures, anchors: Anchors, scale: Scale | None) -> Samples:
    """Return the residuals of ln depth at anchors with a valid base; ln depth itself without a scale."""
    log_depth = torch.from_numpy(anchors.depth).float().log()  # (N,)
    residual = log_depth
    if scale is not None:
        residual = (
            log_depth - base_depth(anchors.sample(frame.disparity), scale, max_base_depth(anchors)).log()
        )
    samples = Samples(frame.features(anchors), residual, log_depth, torch.zeros_like(residual))
    valid = residual.isfinite()
    return samples if bool(valid.all()) else samples.select(valid)


def base_depth(disparity: Tensor, scale: Scale, max_depth: float) -> Tensor:
    """Return the global depth, at most `max_depth`; NaN where the disparity is NaN."""
    # In place: fresh maps cost more time than the arithmetic.
    return (disparity + scale.shift).clamp_min_(scale.scale / max_depth).reciprocal_().mul_(scale.scale)


def grid_log_base(frame: FrameFeatures, scale: Scale, max_depth: float) -> Tensor:
    """Return the base's ln depth at the grid cells: (rows, columns), NaN where the disparity is NaN."""
    return base_depth(frame.grid_disparity, scale, max_depth).log()


def apply_candidates(
    frame: FrameFeatures,
    candidates: Sequence[Candidate],
    scale: Scale | None,
    max_depth: float,
    *,
    samples: Samples | None = None,
    noise: float = 0.01,
    relative_error: float = UNSEEN_STDDEV,
    fade: float = 1.0,
    offset: float = 0.0,
) -> FusedDepth:
    """Average the candidates' depth over a frame.

    With a fade f and shares s, ln z = (1 - f) b + f (s_n (b + m_n) + s_c m_c), b being the base's ln depth.

    Args:
        max_depth: metres at which the base is limited.
        samples: all samples of the frame; more than MAX_SAMPLES add detail.
        noise: relative standard deviation of the measured depth.
        relative_error: relative standard deviation of depth that no anchor corrects.
        fade: correlation of the correction with the present frame, [0, 1]; below 1 if it is carried.
        offset: added to the base's ln depth.
    """
    shares = torch.tensor([one.share for one in candidates])  # (K,)
    network = torch.tensor([float(one.base == "network") for one in candidates])  # (K,)
    network_share = float(shares @ network)
    base_power = 0.0 if scale is None else 1.0 - fade * (1.0 - network_share)
    shape = frame.rows, frame.columns
    means = predict_candidates(candidates, frame.grid()).reshape(-1, *shape)  # (K, rows, columns)
    log_base = torch.zeros(shape)
    if scale is not None:
        log_base = grid_log_base(frame, scale, max_depth) + offset
        log_base = log_base.nan_to_num(float(log_base.nanmedian()))
    rows = means + network[:, None, None] * log_base  # (K, rows, columns)
    correction = fade * torch.tensordot(shares, means, 1) + offset * base_power  # (rows, columns)
    if samples is not None and len(samples) > MAX_SAMPLES:
        correction = correction + _detail(frame, candidates, samples, noise)
    log_depth = correction + base_power * (log_base - offset)
    disagreement = torch.tensordot(shares, (rows - torch.tensordot(shares, rows, 1)).square(), 1)
    depth = frame.upsample(correction.exp())  # (H, W)
    if scale is not None and base_power == 1.0:
        depth.mul_(base_depth(frame.disparity, scale, max_depth))
    elif scale is not None and base_power > 0.0:
        depth.mul_(base_depth(frame.disparity, scale, max_depth).pow_(base_power))
    relative = relative_stddev(
        frame, candidates, log_depth, disagreement, unseen_stddev=relative_error, fade=fade
    )  # (rows, columns)
    stddev = frame.upsample(relative).mul_(depth)  # (H, W)
    agreeing = sum(one.share * one.correction.agreeing for one in candidates)
    source: Source = "fused" if network_share >= 0.5 else "interpolated"
    return FusedDepth(depth, stddev, source, agreeing, tuple(candidates))


def _detail(frame: FrameFeatures, candidates: Sequence[Candidate], samples: Samples, noise: float) -> Tensor:
    """Return the detail of ln depth that all samples add to those of the fit: (rows, columns)."""
    error = torch.zeros(len(samples))
    for one, mean in zip(candidates, predict_candidates(candidates, samples.features), strict=True):
        error += one.share * ((samples.residual if one.base == "network" else samples.log_depth) - mean)
    stddev = max(1.4826 * float(error.abs().median()), noise)
    weight = (error.abs() < MAX_DEVIATION * stddev).float()
    return smooth_detail(frame, samples, error, weight)


def scaled_depth(disparity: Tensor, scale: Scale, relative_error: float = UNSEEN_STDDEV) -> FusedDepth:
    """Return the global depth alone."""
    depth = scale.depth(disparity)
    relative = (scale.log_depth_variance(disparity) + relative_error**2).sqrt()
    return FusedDepth(depth, depth * relative, "scaled", 1.0)
