"""From a network's output to the depth that is shaded, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Readout"]

USUAL_DEPTH = 2.2
"""Median depth of a metric model's picture in half picture heights: a field of view of 49
degrees, which most cameras come near to."""


@dataclass(frozen=True)
class Readout:
    """Depth z = (scale + tanh d) / (disparity + shift), Re-Depth Anything, section 3.1.

    The unit of z is half the picture's height, as in `geometry.orthographic_points`. Of a
    metric model, whose output is depth already, z = output * (scale + tanh d) / scale * unit.
    """

    scale: float
    shift: float
    metric: bool = False
    unit: float = 1.0
    """Half picture heights a metre, of a metric model."""

    @classmethod
    def of(cls, output: Tensor, scale: float, shift: float, metric: bool) -> Readout:
        """The readout of a network whose first output, (1, h, w), this is."""
        if not metric:
            return cls(scale, shift)
        return cls(scale, shift, True, USUAL_DEPTH / max(float(output.median()), 1e-6))

    def depth(self, output: Tensor, offset: Tensor | float = 0.0) -> Tensor:
        """Depth z of an output, of the same shape; `offset` is d and broadcasts."""
        scale = self.scale + torch.tanh(torch.as_tensor(offset, device=output.device))
        if self.metric:
            return output * (scale / self.scale * self.unit)
        return scale / (output + self.shift).clamp_min(1e-6)

    def output(self, depth: Tensor) -> Tensor:
        """The output that has this depth at d = 0."""
        if self.metric:
            return depth / self.unit
        return self.scale / depth - self.shift
