"""What refinement asks of a depth network."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from redepth_ros.core.refine.networks import Embeddings

__all__ = ["DepthModel"]


class DepthModel(Protocol):
    """What refinement asks of a depth network: `models.DepthAnything` has it."""

    metric: bool
    """Whether it predicts depth in metres; if not, disparity in no unit, larger when nearer."""

    def encode(self, pixels: Tensor) -> Embeddings:
        """What the frozen encoder makes of pixels (B, 3, h, w)."""

    def decode(self, embeddings: Embeddings) -> Tensor:
        """The prediction (B, h, w) of embeddings, with gradients."""

    def picture(self, pixels: Tensor) -> Tensor:
        """The picture that pixels were made of: (B, 3, h, w) sRGB in 0..1."""

    def fork(self) -> DepthModel:
        """The same network with a decoder of its own."""

    def decoder_parameters(self) -> list[torch.nn.Parameter]:
        """The decoder's weights."""
