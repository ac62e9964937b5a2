"""What an encoder hands to a decoder."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Embeddings"]


@dataclass(frozen=True)
class Embeddings:
    """Intermediate feature maps of a vision transformer, as tokens.

    In Re-Depth Anything these, E in the paper, are the free variables of the refinement.
    """

    features: tuple[Tensor, ...]
    """One (B, 1 + rows * columns, C) tensor a stage, the class token first."""
    grid: tuple[int, int]
    """Rows and columns of patches."""
