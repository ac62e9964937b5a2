"""Anchors of a refinement: those that guide it, and those that check its result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.checks import anchor_errors, check_anchors

__all__ = ["Anchoring", "split_anchors"]

MIN_HELD_OUT = 8
"""Anchors that are held out at least; with fewer, all anchors guide the refinement and check it."""


class Anchoring:
    """Fuses the disparity of one image with part of its anchors, before and after refinement.

    The other anchors are held out: the optimisation does not see them, and they decide whether its result
    is better than the fast depth. The published depth is fused with all anchors (`Refinement.fused`).
    """

    def __init__(self, anchors: Anchors, scale: Scale, image: Tensor, held_out_fraction: float) -> None:
        """Args:
        anchors: of the network's input size.
        scale: global scale of the network's disparity.
        image: (1, 3, h, w) sRGB in [0, 1].
        held_out_fraction: share of the anchors that check the result.
        """
        self.scale = scale
        self._image = image[0].permute(1, 2, 0).cpu()  # (h, w, 3)
        self.guiding, checking = split_anchors(anchors, held_out_fraction)
        """Anchors of the loss."""
        self._checking = checking or anchors

    def log_correction(self, disparity: Tensor) -> Tensor:
        """Return the correction of ln depth by the guiding anchors: (h, w); 0 where depth is invalid."""
        fused = self._fuse(disparity, self.guiding).to(disparity.device)
        return (fused / self.scale.depth(disparity)).log().nan_to_num(0.0, 0.0, 0.0)

    def check(self, fast: Tensor, refined: Tensor) -> str:
        """Return why a refined disparity (h, w) is worse than the fast one; empty if it is not."""
        errors = (anchor_errors(self._fuse(one, self.guiding), self._checking) for one in (fast, refined))
        return check_anchors(*errors)

    def _fuse(self, disparity: Tensor, anchors: Anchors) -> Tensor:
        with torch.no_grad():
            return fuse_depth(disparity.cpu().float(), anchors, self.scale, image=self._image).depth


def split_anchors(anchors: Anchors, held_out_fraction: float) -> tuple[Anchors, Anchors | None]:
    """Split anchors at random, in the same way in each call.

    Args:
        anchors: of one image.
        held_out_fraction: share of the anchors in the second part.

    Returns:
        Both parts; the second is None where it would have fewer than MIN_HELD_OUT anchors.
    """
    count = round(held_out_fraction * len(anchors))
    if count < MIN_HELD_OUT or count >= len(anchors):
        return anchors, None
    held_out = np.zeros(len(anchors), bool)
    held_out[np.random.default_rng(0).permutation(len(anchors))[:count]] = True
    first, second = (
        replace(anchors, rows=anchors.rows[part], columns=anchors.columns[part], depth=anchors.depth[part])
        for part in (~held_out, held_out)
    )
    return first, second
