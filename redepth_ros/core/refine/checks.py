"""Checks of a refinement; each returns the reason to keep the fast depth, or an empty string.

A light-conditioned prior predicts the re-lit image, and its loss measures the error of a shape. The
loss depends on the image, too; its ratio to the loss of a control shape under the same lights and noise
does not. A prior that sees the shape prefers it to a plane of the same slant and to its mirror image.
A prior that does not see it prefers the plane, and refinement drifts towards the plane.
"""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.refine.losses import ANCHOR_TOLERANCE

__all__ = [
    "anchor_errors",
    "check_anchors",
    "check_change",
    "check_initial_loss",
    "check_loss_ratio",
    "plane_of_same_slant",
]

MIN_INVERSE_DEPTH = 0.02
"""Smallest inverse depth of a control plane, divided by its mean."""


def check_change(depth: Tensor, fast: Tensor, max_change: float, min_contrast: float) -> str:
    """Check for invalid pixels, divergence and collapse.

    Args:
        depth: (H, W) refined.
        fast: (H, W) before refinement, in the same unit.
        max_change: largest median of |ln(depth / fast)|.
        min_contrast: smallest standard deviation of ln(depth), divided by that of ln(fast).
    """
    usable = fast.isfinite() & (fast > 0)
    invalid = int((~(depth.isfinite() & (depth > 0)) & usable).sum())
    if invalid:
        return f"{invalid} pixels have no depth"
    refined, before = depth[usable].log(), fast[usable].log()
    if refined.numel() < 2:
        return "the fast depth has no valid pixels"
    change = float((refined - before).abs().median())
    if change > max_change:
        return f"the median depth changed by {change:.0%}, more than {max_change:.0%}: it diverged"
    contrast = float(refined.std() / before.std().clamp_min(1e-9))
    if contrast < min_contrast:
        return f"the contrast of the depth fell to {contrast:.0%}, below {min_contrast:.0%}: it collapsed"
    return ""


def check_initial_loss(loss: float, min_initial_loss: float) -> str:
    """Check that the prior can improve the fast depth.

    Args:
        loss: SDS loss of the fast depth.
        min_initial_loss: loss below which the prior has nothing to correct; 0 disables the check.
    """
    if not loss < min_initial_loss:
        return ""
    return (
        f"the SDS loss of the fast depth is {loss:.2g}, below {min_initial_loss:.2g}: the prior has nothing "
        "to correct"
    )


def check_loss_ratio(loss: float, control: float, name: str, max_ratio: float) -> str:
    """Check that the prior prefers a shape to a control shape.

    Args:
        loss: SDS loss of the shape.
        control: SDS loss of the control shape, under the same samples.
        name: of the control shape, for the message.
        max_ratio: largest ratio of both losses; 0 disables the check.
    """
    if not max_ratio or loss < max_ratio * control:
        return ""
    return (
        f"the SDS loss of the refined depth, {loss:.2g}, is not below {max_ratio:g} times that of {name}, "
        f"{control:.2g}: the prior does not see the shape"
    )


def plane_of_same_slant(depth: Tensor) -> Tensor:
    """Return the least-squares plane of depth (..., H, W), as depth in the same unit.

    It is fitted to the inverse depth, in which planes in space are linear.
    """
    inverse = depth.reciprocal()
    mean = inverse.mean(dim=(-2, -1), keepdim=True)  # (..., 1, 1)
    plane = mean
    for dim in (-2, -1):
        line = torch.linspace(-1.0, 1.0, depth.shape[dim], device=depth.device)
        line = line[:, None] if dim == -2 else line  # (H, 1) or (W,)
        slope = (inverse * line).mean(dim=(-2, -1), keepdim=True) / line.square().mean().clamp_min(1e-12)
        plane = plane + slope * line
    return plane.clamp_min(MIN_INVERSE_DEPTH * mean).reciprocal()  # (..., H, W)


def anchor_errors(depth: Tensor, anchors: Anchors) -> Tensor:
    """Return |ln(depth / measured)| at the anchors, (N,); infinite where the depth is invalid.

    Args:
        depth: (H, W) metres, of the anchors' size.
        anchors: N of them.
    """
    measured = torch.from_numpy(anchors.depth).to(depth)  # (N,)
    predicted = anchors.sample(depth)  # (N,)
    valid = predicted > 0  # False for NaN, too
    error = (torch.where(valid, predicted, 1.0).log() - measured.log()).abs()
    return torch.where(valid, error, torch.inf)


def check_anchors(fast: Tensor, refined: Tensor) -> str:
    """Check that the refined depth is no worse at the anchors than the fast one.

    Errors are limited to four times the fast depth's median, so that wrong anchors, which are far
    off in both depths, do not decide.

    Args:
        fast: errors (N,) of the fast depth, see `anchor_errors`.
        refined: errors (N,) of the refined depth.
    """
    limit = max(4.0 * float(fast.median()), ANCHOR_TOLERANCE)
    before, after = (float(errors.clamp_max(limit).mean()) for errors in (fast, refined))
    if after <= before:
        return ""
    return f"the error at {len(fast)} anchors grew from {before:.1%} to {after:.1%} of the depth"
