"""Measured samples of a depth correction, and the features of pixels that the correction depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["Features", "Samples", "concatenate", "spread_indices"]

RASTER = 20.0
"""Raster cells per image diagonal, along which samples are ordered to pick some of them evenly."""


@dataclass(frozen=True)
class Features:
    """Coordinates of N pixels in the covariance function."""

    position: Tensor
    """(N, 2) row and column, divided by the image's diagonal."""
    disparity: Tensor
    """(N,) ln disparity, standardised over the image."""
    color: Tensor
    """(N, 3) CIE Lab color divided by 100; zeros without an image."""

    def select(self, index: Tensor | slice) -> Features:
        """Return the features at an index, a mask (N,) or a slice."""
        return Features(self.position[index], self.disparity[index], self.color[index])

    def position_only(self) -> Features:
        """Return the same pixels with disparity and color set to 0."""
        return replace(self, disparity=torch.zeros_like(self.disparity), color=torch.zeros_like(self.color))


@dataclass(frozen=True)
class Samples:
    """N measured residuals of ln depth."""

    features: Features
    residual: Tensor
    """(N,) measured ln depth minus ln depth of the base."""
    log_depth: Tensor
    """(N,) measured ln depth."""
    age: Tensor
    """(N,) seconds, 0 for the present frame. Samples of one age belong to one frame."""

    def __len__(self) -> int:
        return len(self.residual)

    def select(self, index: Tensor | slice) -> Samples:
        """Return the samples at an index, a mask (N,) or a slice."""
        return Samples(
            self.features.select(index), self.residual[index], self.log_depth[index], self.age[index]
        )

    def position_only(self) -> Samples:
        """Return the samples with features that hold their positions only."""
        return replace(self, features=self.features.position_only())

    @property
    def aged(self) -> bool:
        """Whether some samples belong to earlier frames."""
        return bool(self.age.any())


def concatenate(parts: list[Samples]) -> Samples:
    """Return the samples of several sets as one set."""
    return Samples(
        Features(
            torch.cat([part.features.position for part in parts]),
            torch.cat([part.features.disparity for part in parts]),
            torch.cat([part.features.color for part in parts]),
        ),
        torch.cat([part.residual for part in parts]),
        torch.cat([part.log_depth for part in parts]),
        torch.cat([part.age for part in parts]),
    )


def spread_indices(samples: Samples, count: int) -> Tensor:
    """Return the indices of `count` samples that are distributed over the image like all of them."""
    rows, columns = (samples.features.position * RASTER).long().unbind(1)  # (N,) each
    boustrophedon = torch.where(rows % 2 == 0, columns, 40 - columns)
    order = torch.argsort(rows * 64 + boustrophedon, stable=True)  # along the raster, back and forth
    return order[torch.linspace(0, len(samples) - 1, count).round().long()]
