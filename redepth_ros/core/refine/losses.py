"""Losses besides score distillation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from redepth_ros.core.metric.anchors import Anchors

__all__ = ["LOSS_SCALE", "anchor_loss", "laplacian_smoothness", "normalize_range"]

LOSS_SCALE = 1024.0
"""Factor on losses before they are differentiated, so that gradients in half precision do not
underflow. AdamW's steps do not depend on it."""

ANCHOR_TOLERANCE = 0.02
"""Error of ln depth up to which the anchor loss is quadratic; it is linear above."""


def normalize_range(values: Tensor) -> Tensor:
    """Scale each map (..., H, W) to [0, 1] by its own range, which gets no gradient."""
    low = values.detach().amin(dim=(-2, -1), keepdim=True)
    high = values.detach().amax(dim=(-2, -1), keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def laplacian_smoothness(values: Tensor) -> Tensor:
    """Return the mean absolute Laplacian of maps (B, H, W), zero-padded: a scalar.

    Re-Depth Anything applies it to the disparity scaled to [0, 1], see `normalize_range`.
    """
    kernel = values.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    return conv2d(values.unsqueeze(1), kernel[None, None], padding=1).abs().mean()


def anchor_loss(depth: Tensor, anchors: Anchors) -> Tensor:
    """Return the mean robust error of ln depth at the anchors: a scalar.

    Charbonnier's sqrt(e^2 + c^2) - c: the gradient of a wrong anchor is no larger than that of a
    right one. Invalid depth has no gradient.

    Args:
        depth: (B, H, W) metres, of the anchors' size.
        anchors: at least one.
    """
    measured = torch.from_numpy(anchors.depth).to(depth)  # (N,)
    predicted = anchors.sample(depth)  # (B, N)
    valid = predicted.detach() > 0  # False for NaN, too
    error = torch.where(valid, predicted, measured).log() - measured.log()
    return ((error.square() + ANCHOR_TOLERANCE**2).sqrt() - ANCHOR_TOLERANCE).mean()
