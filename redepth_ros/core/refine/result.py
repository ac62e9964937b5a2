"""What a refinement tells: its steps, its result, how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from torch import Tensor

from redepth_ros.core.metric.scale import Scale

__all__ = ["Outcome", "Refinement", "Step"]


class Outcome(enum.IntEnum):
    """How a refinement ended; the numbers are those of RefineDepth.action."""

    REFINED = 1
    """All steps were done, and the result passed its checks."""
    STOPPED_EARLY = 2
    """The result is the best so far."""
    KEPT_FAST = 3
    """The refined depth did not pass its checks, or could not be had: the result is the fast one."""


@dataclass(frozen=True)
class Step:
    """What one step did. Losses are means over the lights and the members at work."""

    members_done: int
    """Members that were finished before this step."""
    members_at_work: int
    """Members that did this step together."""
    members: int
    step: int
    """Steps done by the members at work, from 1."""
    steps: int
    loss: float
    loss_sds: float
    loss_smoothness: float
    loss_anchors: float
    """0 without anchors."""

    @property
    def share(self) -> float:
        """Share of the whole work that is done, 0..1."""
        return (self.members_done + self.members_at_work * self.step / self.steps) / self.members


@dataclass(frozen=True)
class Refinement:
    """The result. Maps are (h, w) float32 on the CPU, at the network's input size."""

    refined: Tensor
    """Disparity in the model's unit, or depth in metres of a metric model."""
    fast: Tensor
    """The same before refinement."""
    spread: Tensor
    """Standard deviation of the depth over the members over its mean; 0 with one member."""
    depth: Tensor
    """Refined depth: metres of a metric model, else half picture heights, the scale unknown."""
    fast_depth: Tensor
    """The same before refinement."""
    outcome: Outcome
    message: str
    """The outcome in words, for people."""
    steps: int
    """Steps that each of the averaged members did."""
    elapsed: float
    """Seconds."""
    history: tuple[Step, ...]
    prompt: str = ""
    """What the prior was told that the picture shows."""
    scale: Scale | None = None
    """By which the anchors were compared; None without anchors."""
