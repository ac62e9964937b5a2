"""From a network's output to the depth that is shaded, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["DepthParametrization"]

TYPICAL_DEPTH = 2.2
"""Median depth assumed for the image of a metric network, half image heights: that of a field of
view of 49 degrees, which is near to that of most cameras."""


@dataclass(frozen=True)
class DepthParametrization:
    """Depth z = (s + tanh d) / (gain D + m), Re-Depth Anything, section 3.1.

    z is in half image heights, as in `OrthographicCamera`. The output of a metric network is depth
    already; then z = output * (s + tanh d) / s * unit.
    """

    scale: float
    """s."""
    offset: float
    """m, in the unit of the scaled disparity gain D."""
    metric: bool = False
    unit: float = 1.0
    """Half image heights per metre, of a metric network."""
    gain: float = 1.0
    """Brings the disparity of any network to the range that s and m were chosen for."""

    @classmethod
    def for_output(
        cls, output: Tensor, scale: float, offset: float, metric: bool, disparity_mean: float = 0.0
    ) -> DepthParametrization:
        """Make the parametrization for the first output of a network.

        Args:
            output: (1, h, w) relative disparity, or metres of a metric network.
            scale, offset: s and m.
            metric: whether the output is depth in metres.
            disparity_mean: mean of the scaled disparity, so that the depth does not depend on the
                network's unit; 0 takes a gain of 1.
        """
        if not metric:
            mean = float(output.mean())
            return cls(scale, offset, gain=disparity_mean / mean if disparity_mean and mean > 0.0 else 1.0)
        return cls(scale, offset, True, TYPICAL_DEPTH / max(float(output.median()), 1e-6))

    def depth(self, output: Tensor, scale_offset: Tensor | float = 0.0) -> Tensor:
        """Return the depth z of an output, of the same shape; `scale_offset` is d and broadcasts."""
        scale = self.scale + torch.tanh(torch.as_tensor(scale_offset, device=output.device))
        if self.metric:
            return output * (scale / self.scale * self.unit)
        return scale / (self.gain * output + self.offset).clamp_min(1e-6)

    def output(self, depth: Tensor) -> Tensor:
        """Return the output that has this depth at d = 0."""
        if self.metric:
            return depth / self.unit
        return (self.scale / depth - self.offset) / self.gain
