"""Checks of a refined depth; each returns the reason to reject it, or an empty string."""

from __future__ import annotations

from torch import Tensor

__all__ = ["check_change", "check_loss_drop"]


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


def check_loss_drop(before: float, after: float, min_loss_drop: float) -> str:
    """Check that the prior prefers the refined depth to the fast one.

    A shape that the prior accepted from the start is as right as it can tell; the change is then the
    prior's own error.

    Args:
        before, after: SDS loss of the fast and of the refined depth under the same samples.
        min_loss_drop: smallest difference.
    """
    if before - after >= min_loss_drop:
        return ""
    return f"the SDS loss dropped from {before:.2g} to {after:.2g}, by less than {min_loss_drop:.2g}"
