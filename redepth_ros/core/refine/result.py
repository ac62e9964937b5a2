"""What a refinement returns: its steps, its result and its outcome."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import FusedDepth, fuse_depth
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["Outcome", "Plan", "Refinement", "ScaledDepth", "Step"]


class Outcome(enum.IntEnum):
    """How a refinement ended; the numbers are those of RefineDepth.action."""

    REFINED = 1
    """All planned steps are done and the result passed its checks."""
    STOPPED_EARLY = 2
    """The result is the best so far."""
    KEPT_FAST = 3
    """The refined depth is missing or failed its checks: the result is the fast depth."""

    @property
    def label(self) -> str:
        """The outcome in words, for example "stopped early"."""
        return self.name.lower().replace("_", " ")


@dataclass(frozen=True)
class Plan:
    """The work of a refinement: that of the settings, or less for a time budget."""

    steps: int
    """Steps of each member."""
    ensemble_size: int
    lights_per_step: int

    @classmethod
    def of(cls, settings: RefineSettings) -> Plan:
        """Return the work of settings."""
        return cls(settings.steps, settings.ensemble_size, settings.lights_per_step)

    def describe(self, settings: RefineSettings) -> str:
        """Return what is planned for the time budget of settings; empty if it is all of their work."""
        if self == Plan.of(settings):
            return ""
        return (
            f"planned {self.steps} of {settings.steps} steps, ensemble of {self.ensemble_size}, "
            f"{self.lights_per_step} lights for a budget of {settings.time_budget:g} s"
        )


@dataclass(frozen=True)
class Step:
    """One optimisation step. Losses are means over the lights and the members at work."""

    members_done: int
    """Members that were finished before this step."""
    members_at_work: int
    """Members that did this step together."""
    ensemble_size: int
    """Planned members."""
    step: int
    """Steps done by the members at work, from 1."""
    steps: int
    """Planned steps of each member; a time budget changes them."""
    loss: float
    loss_sds: float
    loss_smoothness: float
    loss_anchors: float
    """0 without anchors."""

    @property
    def progress(self) -> float:
        """Share of the whole work that is done, in [0, 1]."""
        return (self.members_done + self.members_at_work * self.step / self.steps) / self.ensemble_size


@dataclass(frozen=True)
class ScaledDepth:
    """Refined depth in the unit of a `Scale`; maps are (H, W), NaN at infinity."""

    depth: Tensor
    stddev: Tensor
    fast: Tensor


@dataclass(frozen=True)
class Refinement:
    """The result. Maps are (h, w) float32 on the CPU, at the size of the network's input."""

    refined: Tensor
    """The network's output: disparity in the network's unit, or depth in metres of a metric network."""
    fast: Tensor
    """The output before refinement."""
    relative_stddev: Tensor
    """Relative standard deviation of the depth over the members; 0 with one member."""
    depth: Tensor
    """Refined depth: metres of a metric network, otherwise half image heights of unknown scale."""
    fast_depth: Tensor
    """Depth before refinement, in the unit of `depth`."""
    outcome: Outcome
    message: str
    """The outcome in words, for the user."""
    steps: int
    """Steps of each averaged member."""
    elapsed: float
    """Seconds."""
    history: tuple[Step, ...]
    plan: Plan
    prompt: str
    scale: Scale | None
    """Relates the output to the anchors' metres; None without anchors, or if they do not determine it."""
    metric: bool
    """Whether the network is metric."""
    disparity_offset: float
    """m of the parametrization, in the network's unit."""
    anchors: Anchors | None = None
    """Measured depth of the image, as it was given; None without anchors."""
    known_scale: Scale | None = None
    """Scale of the output that the network knows itself, without anchors; None if it knows none."""
    image: Tensor | None = None
    """(h, w, 3) sRGB in [0, 1], which guides the fusion with the anchors."""

    @cached_property
    def fused(self) -> FusedDepth | None:
        """Refined depth fused with the anchors at the size of the maps, metres; None without anchors."""
        return self._fuse(self.refined)

    @cached_property
    def fast_fused(self) -> FusedDepth | None:
        """Fast depth fused with the anchors at the size of the maps, metres; None without anchors."""
        if self.outcome is Outcome.KEPT_FAST:
            return self.fused  # of the same output
        return self._fuse(self.fast)

    def _fuse(self, output: Tensor) -> FusedDepth | None:
        if self.anchors is None:
            return None
        anchors = self.anchors.resized(*output.shape)
        return fuse_depth(disparity_from_output(output, self.metric), anchors, self.scale, image=self.image)

    def at_size(self, height: int, width: int) -> Refinement:
        """Return the refinement with its maps at another size, for example that of the image."""

        def resize(values: Tensor) -> Tensor:
            return interpolate(values[None, None], (height, width), mode="bilinear")[0, 0]

        image = self.image
        if image is not None:
            image = torch.stack([resize(channel) for channel in image.unbind(-1)], -1)  # (H, W, 3)
        return replace(
            self,
            image=image,
            refined=resize(self.refined),
            fast=resize(self.fast),
            relative_stddev=resize(self.relative_stddev),
            depth=resize(self.depth),
            fast_depth=resize(self.fast_depth),
        )

    def scaled(self, scale: Scale, assumed_relative_stddev: float) -> ScaledDepth:
        """Return the depth in metres, with its standard deviation.

        With anchors it is the depth fused with them at the size of the maps, and the standard deviation is
        that of fusion and ensemble.
        Without them it is the depth of a scale, with the standard deviation of scale and ensemble.

        Args:
            scale: relates the network's output to metres; not used with anchors.
            assumed_relative_stddev: takes the ensemble's place where there are neither ensemble nor anchors.
        """
        if self.fused is not None and self.fast_fused is not None:
            ensemble = self.relative_stddev * self.fused.depth
            stddev = (self.fused.stddev.square() + ensemble.square()).sqrt()  # (H, W)
            return ScaledDepth(self.fused.depth, stddev, self.fast_fused.depth)
        spread = self.relative_stddev
        if not spread.any():
            spread = torch.full_like(spread, assumed_relative_stddev)
        elif not self.metric:
            # The members' spread is that of 1 / (D + m); the scaled depth has another shift.
            spread = spread * (self.refined + self.disparity_offset) / (self.refined + scale.shift)
        disparity = disparity_from_output(self.refined, self.metric)
        relative = (spread.square() + scale.log_depth_variance(disparity)).sqrt()  # (H, W)
        depth = scale.depth(disparity)
        fast = scale.depth(disparity_from_output(self.fast, self.metric))
        return ScaledDepth(depth, relative * depth, fast)
