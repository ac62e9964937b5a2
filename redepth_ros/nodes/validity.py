"""What is wrong with depth that has no valid values, in words and with the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.nodes.settings import NetworkSettings

__all__ = ["depth_problem"]


def depth_problem(depth: Tensor, stddev: Tensor | None, settings: NetworkSettings) -> str:
    """Return why depth that was masked, or its standard deviation, has no valid pixel; else empty.

    Args:
        depth: (H, W), NaN where masked.
        stddev: likewise; None if there is none.
        settings: of the node, with the limits.
    """
    if bool(torch.isfinite(depth).any()):
        if stddev is None or bool(torch.isfinite(stddev).any()):
            return ""
        return "no pixel of the standard deviation is finite; check the covariance of the scale"
    limits = f"min_depth = {settings.min_depth:g} m, max_depth = {settings.max_depth:g} m"
    for name in ("max_relative_stddev", "max_relative_gradient"):
        if value := getattr(settings, name):
            limits += f", {name} = {value:g}"
    return (
        f"no pixel of the depth is valid: all are masked by {limits}; check scale and shift, or widen the "
        "limits"
    )
