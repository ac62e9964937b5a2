"""Smoothness of a map, as a loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d

__all__ = ["edge_aware_smoothness", "laplacian_smoothness", "scaled_to_unit"]


def scaled_to_unit(values: Tensor) -> Tensor:
    """Each map (..., H, W) over its own range, to 0..1; the range itself has no gradient."""
    low = values.detach().amin(dim=(-2, -1), keepdim=True)
    high = values.detach().amax(dim=(-2, -1), keepdim=True)
    return (values - low) / (high - low).clamp_min(1e-12)


def laplacian_smoothness(values: Tensor) -> Tensor:
    """Mean absolute Laplacian of maps (B, H, W), zero outside: a scalar.

    Re-Depth Anything applies it to the map scaled to 0..1 (see `scaled_to_unit`).
    """
    kernel = values.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])
    return conv2d(values.unsqueeze(1), kernel[None, None], padding=1).abs().mean()


def edge_aware_smoothness(values: Tensor, image: Tensor, sharpness: float = 10.0) -> Tensor:
    """Mean absolute gradient of maps, weighted down where the picture has edges: a scalar.

    Source: Godard et al., Unsupervised monocular depth estimation with left-right
    consistency (2017), equation 2.

    Args:
        values: (B, H, W).
        image: (B, 3, H, W) in 0..1.
        sharpness: weight exp(-sharpness |image gradient|).
    """
    loss = values.new_zeros(())
    for dim in (-1, -2):
        edge = image.diff(dim=dim).abs().mean(dim=1)  # (B, H, W) less one along dim
        loss = loss + (values.diff(dim=dim).abs() * torch.exp(-sharpness * edge)).mean()
    return loss
