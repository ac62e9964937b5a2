"""The free variables of ensemble members that share a batch, and their optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from redepth_ros.core.refine.losses import LOSS_SCALE
from redepth_ros.core.refine.networks import DepthNetwork, Embeddings
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["DepthAverage", "Ensemble"]


class Ensemble:
    """M members that are optimised together.

    Each member has features E and a scale offset d of its own. The decoder phi is shared; where it is
    tuned, it is a copy.
    """

    def __init__(
        self,
        network: DepthNetwork,
        embeddings: Embeddings,
        size: int,
        settings: RefineSettings,
        learning_rate: float,
    ) -> None:
        """Args:
        network: with the decoder.
        embeddings: of the image, the start of all members.
        size: number of members M.
        settings: of the refinement.
        learning_rate: of the embeddings.
        """
        self.size, self._network = size, network
        features = tuple(_repeat(one, size).clone().requires_grad_() for one in embeddings.features)
        constants = tuple(_repeat(one, size) for one in embeddings.constants)
        self._embeddings = Embeddings(features, constants, embeddings.grid)
        self.scale_offset = torch.zeros(
            size, 1, 1, device=features[0].device, requires_grad=settings.scale_learning_rate > 0
        )
        groups: list[dict[str, Any]] = [{"params": list(features), "lr": learning_rate}]
        if settings.decoder_learning_rate:
            self._network = network.fork()
            weights = [weight.requires_grad_() for weight in self._network.decoder_parameters()]
            groups.append({"params": weights, "lr": settings.decoder_learning_rate})
        if settings.scale_learning_rate:
            groups.append({"params": [self.scale_offset], "lr": settings.scale_learning_rate})
        self._optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        self._learning_rates = [group["lr"] for group in groups]
        self._cosine_decay = settings.cosine_decay

    def decode(self) -> Tensor:
        """Return the network's outputs of the members' embeddings: (M, h, w)."""
        return self._network.decode(self._embeddings)

    def decay(self, progress: float) -> None:
        """Set the learning rates for a share of the schedule that is done, in [0, 1]."""
        if self._cosine_decay:
            factor = 0.5 + 0.5 * math.cos(math.pi * progress)
            for group, rate in zip(self._optimizer.param_groups, self._learning_rates, strict=True):
                group["lr"] = factor * rate

    def keep(self, size: int) -> None:
        """Go on with the first members only, and with what the optimiser knows about them."""
        features = tuple(self._first(one, size) for one in self._embeddings.features)
        constants = tuple(one[:size] for one in self._embeddings.constants)
        self._embeddings = Embeddings(features, constants, self._embeddings.grid)
        self.scale_offset = self._first(self.scale_offset, size)
        self.size = size

    def _first(self, variable: Tensor, size: int) -> Tensor:
        """Return the part (size, ...) of a variable; it replaces the variable in the optimiser."""
        part = variable.detach()[:size].clone().requires_grad_(variable.requires_grad)
        for group in self._optimizer.param_groups:
            group["params"] = [part if one is variable else one for one in group["params"]]
        state = self._optimizer.state.pop(variable, {})
        for name, value in state.items():
            self._optimizer.state[part][name] = (
                value[:size].clone() if value.shape == variable.shape else value
            )
        return part

    def descend(self, loss: Tensor) -> None:
        """Update all variables by the gradient of a scalar loss."""
        self._optimizer.zero_grad(set_to_none=True)
        (LOSS_SCALE * loss).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


def _repeat(values: Tensor, size: int) -> Tensor:
    """Return float32 values (1, ...) for each member: (size, ...), without a copy."""
    return values.float().expand(size, *values.shape[1:])


@dataclass(frozen=True)
class DepthAverage:
    """The mean of the depths (M, h, w) after the progress `start`; until then, the last depth."""

    start: float
    total: Tensor | None = None
    count: int = 0

    def add(self, progress: float, depth: Tensor) -> DepthAverage:
        """Return the average with the depths after a step, at the progress after it, in [0, 1]."""
        if self.total is None or progress <= self.start:
            return DepthAverage(self.start, depth, 1)
        return DepthAverage(self.start, self.total + depth, self.count + 1)

    def keep(self, size: int) -> DepthAverage:
        """Return the average of the first members."""
        return self if self.total is None else replace(self, total=self.total[:size])

    def mean(self) -> Tensor:
        """Return the mean (M, h, w); needs at least one step."""
        assert self.total is not None
        return self.total / self.count
