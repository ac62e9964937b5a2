"""Trust region: limits the low-frequency change of the disparity.

Shading shows slopes. It hardly shows the distance of a large region, where refinement can only
drift, mostly towards a plane; there the network's own prediction is better.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["TrustRegion"]


class TrustRegion:
    """Keeps the Gaussian average of maps within a relative distance of a reference's average."""

    def __init__(self, reference: Tensor, sigma: float, limit: float) -> None:
        """Args:
        reference: (1, H, W) positive, such as the fast disparity.
        sigma: of the Gaussian, pixels.
        limit: largest relative change of the average; 0 fixes the average.
        """
        height, width = reference.shape[-2:]
        # Matrices, because a wide average is taken several times per step: (H, H) and (W, W).
        self._rows = _gaussian_matrix(height, sigma).to(reference)
        self._columns = _gaussian_matrix(width, sigma).to(reference).T
        self._reference = reference
        self._allowed = limit * self.average(reference)  # (1, H, W)

    def bound(self, maps: Tensor) -> Tensor:
        """Return maps (B, H, W) within the region, differentiable.

        The excess is subtracted as a smooth field, so that details stay.
        """
        for _ in range(2):  # a Gaussian is no sharp filter: one pass leaves up to a quarter at its edge
            change = self.average(maps - self._reference)  # (B, H, W)
            maps = maps - (change - torch.clamp(change, -self._allowed, self._allowed))
        return maps

    def average(self, maps: Tensor) -> Tensor:
        """Return the Gaussian average of maps (B, H, W); border values repeat beyond the border."""
        return self._rows @ maps @ self._columns  # (B, H, W)


def _gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Return the Gaussian average of a line of pixels as a matrix: (size, size)."""
    reach = max(1, math.ceil(3.0 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    index = (torch.arange(size)[:, None] + offsets).clamp(0, size - 1)  # (size, 2 reach + 1)
    matrix = torch.zeros(size, size)
    return matrix.scatter_add_(1, index, (weights / weights.sum()).expand(size, -1))
