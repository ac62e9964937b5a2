"""Bounds on what refinement may change, and checks of what it made.

Shading sees slopes. How far away a large region lies it hardly sees, so there refinement can
only drift, towards a plane most of all; the network's own opinion is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

__all__ = ["bound_slow_changes", "low_pass", "objection"]


def low_pass(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian average of maps (B, H, W), sigma in pixels, with replicated borders."""
    # Averages over a quarter of sigma come first, so that the cost does not grow with it.
    stride = max(1, int(sigma / 4.0))
    coarse = avg_pool2d(maps.unsqueeze(1), stride, ceil_mode=True, count_include_pad=False)
    sigma = sigma / stride
    reach = max(1, math.ceil(3.0 * sigma))
    line = torch.arange(-reach, reach + 1, device=maps.device, dtype=maps.dtype)
    kernel = torch.exp(-0.5 * (line / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    coarse = pad(coarse, (reach,) * 4, mode="replicate")
    coarse = conv2d(conv2d(coarse, kernel[..., None]), kernel[:, :, None])
    return interpolate(coarse, maps.shape[-2:], mode="bilinear").squeeze(1)  # (B, H, W)


def bound_slow_changes(maps: Tensor, reference: Tensor, sigma: float, limit: float) -> Tensor:
    """Maps whose Gaussian average stays within a share of the reference's.

    What exceeds the bound is taken off smoothly spread, so that detail stays as it is.

    Args:
        maps: (B, H, W) positive, such as disparities.
        reference: (1, H, W), the fast prediction.
        sigma: of the average, in pixels.
        limit: largest relative change of the average; 0 keeps it altogether.

    Returns:
        (B, H, W), differentiable in `maps`.
    """
    allowed = limit * low_pass(reference, sigma)
    for _ in range(2):  # a Gaussian is no sharp filter: once leaves up to a quarter at its edge
        change = low_pass(maps - reference, sigma)  # (B, H, W)
        maps = maps - (change - torch.clamp(change, -allowed, allowed))
    return maps


def objection(depth: Tensor, fast: Tensor, farthest: float, flattest: float) -> str:
    """Why a refined depth should not be used, quoting the value; empty if nothing speaks against it.

    Args:
        depth: (H, W) refined.
        fast: (H, W) what it came from, in the same unit.
        farthest: largest allowed median of |ln(depth / fast)|.
        flattest: smallest allowed standard deviation of ln(depth), as a share of the fast one's.
    """
    usable = fast.isfinite() & (fast > 0)
    wrong = int((~(depth.isfinite() & (depth > 0)) & usable).sum())
    if wrong:
        return f"{wrong} pixels have no depth"
    refined, before = depth[usable].log(), fast[usable].log()
    if refined.numel() < 2:
        return "the fast depth has no valid pixels"
    moved = float((refined - before).abs().median())
    if moved > farthest:
        return f"the depth moved by {moved:.0%} (median), more than {farthest:.0%}: it diverged"
    ratio = float(refined.std() / before.std().clamp_min(1e-9))
    if ratio < flattest:
        return f"the depth's contrast fell to {ratio:.0%}, below {flattest:.0%}: it collapsed"
    return ""
