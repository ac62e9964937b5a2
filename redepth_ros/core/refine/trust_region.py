"""Bounds on what refinement may change, and checks of what it made.

Shading sees slopes. How far away a large region lies it hardly sees, so there refinement can
only drift, towards a plane most of all; the network's own opinion is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["TrustRegion", "objection"]


class TrustRegion:
    """Holds the Gaussian average of maps within a share of a reference's."""

    def __init__(self, reference: Tensor, sigma: float, limit: float) -> None:
        """Args:
        reference: (1, H, W) positive, such as the fast disparity.
        sigma: of the average, in pixels.
        limit: largest relative change of the average; 0 keeps it altogether.
        """
        height, width = reference.shape[-2:]
        # As matrices, since a wide average is taken several times a step: (H, H) and (W, W).
        self._rows = _gaussian(height, sigma).to(reference)
        self._columns = _gaussian(width, sigma).to(reference).T
        self._reference = reference
        self._allowed = limit * self.average(reference)  # (1, H, W)

    def bound(self, maps: Tensor) -> Tensor:
        """Maps (B, H, W) within the region, differentiable in them.

        What exceeds it is taken off smoothly spread, so that detail stays as it is.
        """
        for _ in range(2):  # a Gaussian is no sharp filter: once leaves up to a quarter at its edge
            change = self.average(maps - self._reference)  # (B, H, W)
            maps = maps - (change - torch.clamp(change, -self._allowed, self._allowed))
        return maps

    def average(self, maps: Tensor) -> Tensor:
        """The Gaussian average of maps (B, H, W), their borders repeated beyond them."""
        return self._rows @ maps @ self._columns  # (B, H, W)


def _gaussian(size: int, sigma: float) -> Tensor:
    """The Gaussian average of a line of pixels, its ends repeated beyond it, as a matrix: (size, size)."""
    reach = max(1, math.ceil(3.0 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    seen = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)  # (size, 2 reach + 1)
    matrix = torch.zeros(size, size)
    return matrix.scatter_add_(1, seen, (weights / weights.sum()).expand(size, -1))


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
