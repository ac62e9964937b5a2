"""Members of an ensemble: what is optimised, and what is made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from redepth_ros.core.refine.networks import DepthModel
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["Average", "Members"]


@dataclass
class Members:
    """Members that share a batch: their free variables and what moves them.

    They share the decoder as well; where it is tuned, it is a copy of the model's.
    """

    model: DepthModel
    start: Embeddings
    """Of the picture, the same for all."""
    count: int
    settings: RefineSettings
    embedding_rate: float
    offset: Tensor = field(init=False)
    """Of the scale, (M, 1, 1); see `Readout.depth`."""
    optimiser: torch.optim.Optimizer = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        device = self.start.features[0].device
        # The class tokens stay as they are; each member has patch tokens of its own.
        self._classes = [one[:, :1].expand(self.count, -1, -1) for one in self.start.features]
        self._patches = [
            one[:, 1:].float().expand(self.count, -1, -1).clone().requires_grad_()
            for one in self.start.features
        ]
        self.offset = torch.zeros(self.count, 1, 1, device=device, requires_grad=settings.scale_rate > 0)
        groups: list[dict[str, Any]] = [{"params": self._patches, "lr": self.embedding_rate}]
        if settings.decoder_rate:
            self.model = self.model.fork()
            weights = [weight.requires_grad_() for weight in self.model.decoder_parameters()]
            groups.append({"params": weights, "lr": settings.decoder_rate})
        if settings.scale_rate:
            groups.append({"params": [self.offset], "lr": settings.scale_rate})
        self.optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
        self._scheduler = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser,
            lambda step: 0.5 + 0.5 * math.cos(math.pi * step / settings.steps) if settings.decay else 1.0,
        )

    def decode(self) -> Tensor:
        """Outputs (M, h, w) of the members' embeddings."""
        features = tuple(
            torch.cat((token.float(), patches), dim=1)
            for token, patches in zip(self._classes, self._patches, strict=True)
        )
        return self.model.decode(Embeddings(features, self.start.grid))

    def step(self) -> None:
        """Move the variables down their gradients, and the learning rates along their decay."""
        self.optimiser.step()
        self._scheduler.step()


@dataclass
class Average:
    """The mean of the depths (M, h, w) from some step on; before that step, the last one."""

    since: int
    total: Tensor | None = None
    count: int = 0

    def add(self, step: int, depth: Tensor) -> None:
        """Take the depths of a step, from 1, into account."""
        if self.total is None or step <= self.since:
            self.total, self.count = depth.clone(), 1
        else:
            self.total, self.count = self.total + depth, self.count + 1

    def mean(self) -> Tensor | None:
        """(M, h, w), None before the first step."""
        return None if self.total is None else self.total / self.count
