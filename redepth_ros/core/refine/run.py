"""A refinement run: test-time optimisation of depth features under a diffusion prior.

Source: Bhattarai and Rhodin, Re-Depth Anything, arXiv 2512.17908, section 3. The preset `paper`
follows it exactly; docs/explanation/method.md says how `default` differs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from redepth_ros.core.camera import Camera, OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import ConfigError, ModelError, OutOfMemory
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.refine.checks import check_change, check_loss_drop
from redepth_ros.core.refine.ensemble import DepthAverage, Ensemble
from redepth_ros.core.refine.guidance import SdsGuidance
from redepth_ros.core.refine.networks import DepthNetwork, Prior
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.parametrization import DepthParametrization
from redepth_ros.core.refine.result import Outcome, Refinement, Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion

__all__ = ["Refiner", "Run"]

ResultT = TypeVar("ResultT")

CHECK_SAMPLES = 32
"""Re-lit images by which the prior compares the result with the fast depth."""
CHECK_MIN_STEPS = 30
"""Steps below which the SDS loss has no time to drop, so that the drop is not checked."""


@dataclass(frozen=True)
class Refiner:
    """A depth network, a prior and settings; starts one `Run` per image."""

    network: DepthNetwork
    prior: Prior
    settings: RefineSettings

    def start(
        self,
        pixels: Tensor,
        *,
        camera: PinholeCamera | None = None,
        prompt: str = "",
        anchors: Anchors | None = None,
        scale: Scale | None = None,
    ) -> Run:
        """Start a run on one image: the network has seen it, no step is done yet.

        Args:
            pixels: the network's input, (1, 3, h, w), made by its `preprocess`.
            camera: of exactly these pixels; None takes parallel rays.
            prompt: describes the image.
            anchors: measured depth on exactly these pixels.
            scale: of the network's output, if known; None fits it to the anchors.

        Raises:
            ConfigError: camera or anchors of another size.
            AnchorError: the anchors do not determine the scale.
            ModelError: memory does not suffice for the fast depth.
        """
        height, width = pixels.shape[-2:]
        for name, given in (("camera", camera), ("anchors", anchors)):
            if given and (given.height, given.width) != (height, width):
                raise ConfigError(
                    f"{name}: size is {given.width}x{given.height} pixels, the network's input has "
                    f"{width}x{height}; resize them to it"
                )
        return Run(self, pixels, camera or OrthographicCamera(), prompt, anchors, scale)


class Run:
    """One refinement: iterate over `steps`, stop at any time, then take `result`."""

    def __init__(
        self,
        refiner: Refiner,
        pixels: Tensor,
        camera: Camera,
        prompt: str,
        anchors: Anchors | None,
        scale: Scale | None,
    ) -> None:
        self._network, self._prior = refiner.network.fork(), refiner.prior
        self._settings = settings = refiner.settings
        self._prompt = prompt
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._started = time.monotonic()
        self._history: list[Step] = []
        self._finished: list[Tensor] = []  # depths (M, h, w) of members that did all steps
        self._average: DepthAverage | None = None  # of the members at work
        self._failure = ""
        self._ended = False
        self._notes: list[str] = []
        try:
            with torch.no_grad(), memory_errors():
                self._embeddings = self._network.encode(pixels)
                self._fast = self._network.decode(self._embeddings)  # (1, h, w)
                self._image = self._network.image(pixels).float()  # (1, 3, h, w)
        except OutOfMemory as error:
            height, width = pixels.shape[-2:]
            raise ModelError(
                f"{error} when the depth network processed {width}x{height} pixels; lower the input size or "
                "choose a smaller network"
            ) from None
        anchors = anchors if settings.anchor_weight else None
        if anchors and scale is None:
            sampled = anchors.sample(disparity_from_output(self._fast[0], self._network.metric))
            fitted = fit_scale(sampled.cpu().numpy(), anchors.depth, fit_shift=not self._network.metric)
            scale = fitted.scale
        self.scale = scale if anchors else None
        """Relates the network's output to the anchors' metres; None without anchors."""
        self._objective = self._make_objective(camera, anchors)
        if warning := self._prior.prompt_warning(prompt):
            self._notes.append(warning)

    def _make_objective(self, camera: Camera, anchors: Anchors | None) -> Objective | None:
        settings, fast = self._settings, self._fast
        self._parametrization = DepthParametrization.for_output(
            fast, settings.depth_scale, settings.disparity_offset, self._network.metric
        )
        trust_region = None
        if settings.trust_region_radius:
            sigma = settings.trust_region_radius * min(fast.shape[-2:])
            limit = settings.anchored_trust_region_limit if anchors else settings.trust_region_limit
            trust_region = TrustRegion(fast, sigma, limit)
        try:
            with memory_errors():
                guidance = SdsGuidance(self._prior, self._image, self._prompt, settings)
        except OutOfMemory:
            self._failure = "memory ran out before the first step"
            return None
        return Objective(guidance, self._parametrization, camera, trust_region, anchors, self.scale, settings)

    def steps(self) -> Iterator[Step]:
        """Do one optimisation step after another until all are done or the time budget is spent.

        A failure on the way (memory that does not suffice for one image, a loss that is not finite) ends the
        steps; `result` then uses the finished members or keeps the fast depth.
        """
        objective, settings = self._objective, self._settings
        if objective is None:
            return
        if float((self._image.amax((-2, -1)) - self._image.amin((-2, -1))).max()) < 1.0 / 255.0:
            self._failure = "the image has a single colour, so that there is no shading"
            return
        batch = min(settings.ensemble_batch_size or settings.ensemble_size, settings.ensemble_size)
        first = 0
        while first < settings.ensemble_size and not self._ended:
            size = min(batch, settings.ensemble_size - first)
            try:
                yield from self._optimise(objective, first, size)
            except OutOfMemory:
                if size == 1:
                    self._failure = "memory ran out even for a single re-lit image"
                    return
                batch = size // 2
                self._notes.append(f"memory ran out: the ensemble batch size was lowered to {batch}")
            else:
                first += size

    def _optimise(self, objective: Objective, first: int, size: int) -> Iterator[Step]:
        """Do all steps of members that share a batch; set `_ended` if the run is over."""
        settings = self._settings
        anchored = objective.anchors is not None
        rate = settings.anchored_learning_rate if anchored else settings.embedding_learning_rate
        with memory_errors():
            ensemble = Ensemble(self._network, self._embeddings, size, settings, rate)
        self._average = DepthAverage(math.floor((1.0 - settings.averaging_fraction) * settings.steps))
        guidance, count = objective.guidance, size * settings.lights_per_step
        for index in range(1, settings.steps + 1):
            samples = guidance.sample(count, self._generator, (index - 1) / settings.steps)
            depth, losses = self._in_memory(guidance, count, partial(objective.step, ensemble, samples))
            values = (losses.total, losses.sds, losses.smoothness, losses.anchors)
            self._history.append(Step(first, size, settings.ensemble_size, index, settings.steps, *values))
            if not math.isfinite(losses.total) or not bool(depth.isfinite().all()):
                self._failure = f"the loss was {losses.total} in step {index}"
                self._ended = True
                return
            self._average.add(index, depth)
            yield self._history[-1]
            last = index == settings.steps and first + size == settings.ensemble_size
            if settings.time_budget and not last and self._elapsed() > settings.time_budget:
                self._ended = True
                return
        mean = self._average.mean()
        assert mean is not None
        self._finished.append(mean)
        self._average = None

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _in_memory(self, guidance: SdsGuidance, count: int, work: Callable[[], ResultT]) -> ResultT:
        """Return the result of work on `count` re-lit images, in smaller batches if memory runs out."""
        while True:
            try:
                with memory_errors():
                    return work()
            except OutOfMemory:
                if guidance.batch_size == 1:
                    raise
            guidance.batch_size = max(1, min(guidance.batch_size, count) // 2)
            self._notes.append(f"memory ran out: the relit batch size was lowered to {guidance.batch_size}")

    @torch.no_grad()
    def result(self) -> Refinement:
        """Return the best depth so far; call it after the last step or at any time before.

        After the last step the prior checks the result, which takes as long as a few steps.
        """
        settings, parametrization = self._settings, self._parametrization
        fast = parametrization.depth(self._fast)[0]  # (h, w)
        depths = self._depths()
        finished = sum(len(part) for part in self._finished)
        steps = settings.steps if finished else (self._history[-1].step if self._history else 0)

        reason = "" if self._finished else self._failure or ("" if depths else "no step was done")
        depth, relative_stddev = fast, torch.zeros_like(fast)
        if not reason:
            members = torch.cat(depths)  # (M, h, w)
            depth = members.mean(0)
            if len(members) > 1:
                relative_stddev = members.std(0) / depth
            reason = check_change(depth, fast, settings.max_change, settings.min_contrast)
            if not reason and finished == settings.ensemble_size:
                reason = self._check_prior(depth)
        if reason:
            outcome, message = Outcome.KEPT_FAST, f"kept the fast depth: {reason}"
            refined, depth, relative_stddev = self._fast[0], fast, torch.zeros_like(fast)
        else:
            refined = parametrization.output(depth)
            outcome, message = self._describe(finished, steps, depth, fast)
        return Refinement(
            refined=refined.float().cpu(),
            fast=self._fast[0].float().cpu(),
            relative_stddev=relative_stddev.float().cpu(),
            depth=(depth / parametrization.unit).float().cpu(),
            fast_depth=(fast / parametrization.unit).float().cpu(),
            outcome=outcome,
            message="; ".join([message, *self._notes]),
            steps=steps,
            elapsed=self._elapsed(),
            history=tuple(self._history),
            prompt=self._prompt,
            scale=self.scale,
            metric=self._network.metric,
            disparity_offset=settings.disparity_offset,
        )

    def _depths(self) -> list[Tensor]:
        """Return depths (M, h, w) of the finished members or, before there are any, of those at work.

        Beside a finished member, one that has just started would pull the mean back to the fast depth.
        """
        if self._finished or self._average is None:
            return self._finished
        unfinished = self._average.mean()
        return [] if unfinished is None else [unfinished]

    def _describe(self, finished: int, steps: int, depth: Tensor, fast: Tensor) -> tuple[Outcome, str]:
        """Return the outcome of a depth that passed its checks, and its message."""
        settings = self._settings
        change = f"the depth changed by {float((depth / fast).log().abs().mean()):.1%} on average"
        if finished == settings.ensemble_size:
            return Outcome.REFINED, f"refined: {change}"
        done = f"{steps} of {settings.steps} steps"
        if finished:
            done = f"{finished} of {settings.ensemble_size} ensemble members"
        cause = f" because {self._failure}" if self._failure else ""
        return Outcome.STOPPED_EARLY, f"stopped after {done}{cause}: this is the best so far; {change}"

    def _check_prior(self, depth: Tensor) -> str:
        """Return why the prior rejects a depth (h, w), or an empty string.

        Where depth was measured, the anchors decide.
        """
        settings, objective = self._settings, self._objective
        if objective is None or objective.anchors is not None or not self._prior.light_conditioned:
            return ""
        if not (settings.min_loss_drop and settings.sds_weight) or settings.steps < CHECK_MIN_STEPS:
            return ""
        guidance, fast = objective.guidance, self._parametrization.depth(self._fast)
        samples = guidance.sample(CHECK_SAMPLES, torch.Generator().manual_seed(settings.seed), 0.5)
        try:
            before, after = (
                self._in_memory(guidance, CHECK_SAMPLES, partial(objective.prior_loss, one, samples))
                for one in (fast, depth[None])
            )
        except OutOfMemory:
            self._notes.append("memory ran out before the prior could check the result")
            return ""
        return check_loss_drop(before, after, settings.min_loss_drop)
