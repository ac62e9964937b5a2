"""Refinement: a network's depth made better by what a diffusion model finds plausible.

Source: Bhattarai and Rhodin, Re-Depth Anything, arXiv 2512.17908, section 3. The preset
`paper` follows it to the letter, `fast` differs as docs/method.md says.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from redepth_ros.core.metric.anchors import Anchors, anchor_loss
from redepth_ros.core.refine.networks import DepthModel
from redepth_ros.core.refine.guidance import GRADIENT_SCALE, Distillation, Draws
from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.core.camera import (
    normals_from_points,
    orthographic_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.refine.ensemble import Average, Members
from redepth_ros.core.memory import out_of_memory
from redepth_ros.core.refine.networks import Prior
from redepth_ros.core.refine.parametrization import Readout
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.result import Outcome, Refinement, Step
from redepth_ros.core.metric.scale import Scale, disparity_of
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.refine.losses import laplacian_smoothness, scaled_to_unit
from redepth_ros.core.refine.trust_region import TrustRegion, objection

__all__ = ["Refiner", "Run"]

ResultT = TypeVar("ResultT")

JUDGED = 32
"""Re-lit pictures by which the prior compares the result with the fast depth."""
JUDGED_FROM = 30
"""Steps before which the loss had no time to fall."""


class _Losses(NamedTuple):
    """Of one step, not weighted."""

    sds: float
    smoothness: float
    anchors: float


class Refiner:
    """A depth network, a prior and settings; makes one `Run` for each picture."""

    def __init__(self, model: DepthModel, prior: Prior, settings: RefineSettings) -> None:
        self.model, self.prior, self.settings = model, prior, settings

    def start(
        self, pixels: Tensor, *, intrinsics: Intrinsics | None = None, prompt: str = "",
        anchors: Anchors | None = None, scale: Scale | None = None,
    ) -> Run:  # fmt: skip
        """A run on one picture: the network has seen it, no step is done yet.

        Args:
            pixels: the network's input, (1, 3, h, w), as the model's `preprocess` makes it.
            intrinsics: of a camera with exactly those pixels; None sees along parallel rays.
            prompt: what the picture shows.
            anchors: what was measured of the picture, on exactly those pixels.
            scale: that of the network, where it is known; None fits it to the anchors.

        Raises:
            ConfigError: intrinsics or anchors of another size.
            AnchorError: the anchors do not determine the scale.
            ModelError: memory does not suffice for the fast depth itself.
        """
        if intrinsics and (intrinsics.height, intrinsics.width) != tuple(pixels.shape[-2:]):
            raise ConfigError(
                f"intrinsics are of {intrinsics.width}x{intrinsics.height} pixels, the network's input "
                f"has {pixels.shape[-1]}x{pixels.shape[-2]}; scale them to it"
            )
        if anchors and (anchors.height, anchors.width) != tuple(pixels.shape[-2:]):
            raise ConfigError(
                f"anchors are on {anchors.width}x{anchors.height} pixels, the network's input has "
                f"{pixels.shape[-1]}x{pixels.shape[-2]}; resize them to it"
            )
        return Run(self.model, self.prior, self.settings, pixels, intrinsics, prompt, anchors, scale)


class Run:
    """One refinement. Iterate over `steps`, stop whenever you like, then take `result`."""

    def __init__(
        self,
        model: DepthModel,
        prior: Prior,
        settings: RefineSettings,
        pixels: Tensor,
        intrinsics: Intrinsics | None,
        prompt: str,
        anchors: Anchors | None,
        scale: Scale | None,
    ) -> None:
        self._model, self._prior, self._settings = model.fork(), prior, settings
        self._intrinsics, self._prompt = intrinsics, prompt
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._started = time.monotonic()
        self._history: list[Step] = []
        self._finished: list[Tensor] = []  # depths (M, h, w) of members that did all their steps
        self._average: Average | None = None  # of the members at work
        self._failure = ""
        self._ended = False
        self._notes: list[str] = []
        try:
            with torch.no_grad():
                self._embeddings = self._model.encode(pixels)
                fast = self._model.decode(self._embeddings)  # (1, h, w)
                self._picture = model.picture(pixels).float()  # (1, 3, h, w)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ModelError(
                f"memory ran out when the depth network saw {pixels.shape[-1]}x{pixels.shape[-2]} pixels; "
                "lower the input size, or take a smaller network"
            ) from error
        self._readout = Readout.of(fast, settings.scale, settings.shift, model.metric)
        self._fast = fast
        self._anchors = anchors if settings.anchor_weight else None
        self._trust: TrustRegion | None = None
        if settings.trust_radius:
            sigma = settings.trust_radius * min(fast.shape[-2:])
            limit = settings.anchored_trust_limit if self._anchors else settings.trust_limit
            self._trust = TrustRegion(fast, sigma, limit)
        self._distillation: Distillation | None = None
        try:
            self._distillation = Distillation(prior, self._picture, prompt, settings)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self._failure = "memory ran out before the first step"
        if remark := prior.remark(prompt):
            self._notes.append(remark)
        self._scale = scale
        if self._anchors and scale is None:
            at_anchors = self._anchors.at(disparity_of(fast[0], model.metric)).cpu().numpy()
            self._scale = fit_scale(at_anchors, self._anchors.depth, fit_shift=not model.metric).scale

    @property
    def scale(self) -> Scale | None:
        """By which anchors are compared; None without them."""
        return self._scale if self._anchors else None

    def steps(self) -> Iterator[Step]:
        """Do one optimisation step after the other, until all are done or the time is up.

        Whatever goes wrong on the way (memory that does not suffice for a single picture, a
        loss that is not finite) ends the steps, and `result` is made of the members that are done, or
        keeps the fast depth.
        """
        if self._failure:
            return
        if float((self._picture.amax((-2, -1)) - self._picture.amin((-2, -1))).max()) < 1.0 / 255.0:
            self._failure = "the picture is of one colour: there is no shading to go by"
            return
        settings = self._settings
        together = min(settings.members_at_once or settings.members, settings.members)
        first = 0
        while first < settings.members:
            count = min(together, settings.members - first)
            try:
                yield from self._run_group(first, count)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
            else:
                if self._ended:
                    return
                first += count
                continue
            if count == 1:
                self._failure = "memory ran out even for a single re-lit picture"
                return
            together = count // 2
            self._notes.append(f"memory ran out: {together} members at once from then on")

    def _run_group(self, first: int, count: int) -> Iterator[Step]:
        """All steps of members that share a batch; `_ended` afterwards if the run is over."""
        settings = self._settings
        rate = settings.anchored_rate if self._anchors else settings.embedding_rate
        group = Members(self._model, self._embeddings, count, settings, rate)
        self._average = Average(math.floor((1.0 - settings.average) * settings.steps))
        for index in range(1, settings.steps + 1):
            depth, losses = self._step(group, (index - 1) / settings.steps)
            loss = (
                settings.sds_weight * losses.sds
                + settings.smoothness * losses.smoothness
                + settings.anchor_weight * losses.anchors
            )
            step = Step(first, count, settings.members, index, settings.steps, loss, *losses)
            self._history.append(step)
            if not math.isfinite(loss) or not bool(depth.isfinite().all()):
                self._failure = f"the loss was {loss} in step {index}"
                self._ended = True
                return
            self._average.add(index, depth)
            last = index == settings.steps and first + count == settings.members
            yield step
            budget = settings.time_budget
            if budget and not last and time.monotonic() - self._started > budget:
                self._ended = True
                return
        mean = self._average.mean()
        assert mean is not None
        self._finished.append(mean)
        self._average = None

    def _depths(self) -> list[Tensor]:
        """Depths (M, h, w) of the members that are done or, before there are any, of those at work.

        Beside one that is done, one that has just begun would pull the mean back to the fast depth.
        """
        if self._finished or self._average is None:
            return self._finished
        unfinished = self._average.mean()
        return [] if unfinished is None else [unfinished]

    def _objection_of_prior(self, depth: Tensor) -> str:
        """Why a depth (h, w) should not be used, by the prior; empty if it says nothing.

        A shape that the prior liked from the start is as right as it can tell, and what refinement
        changes of it is the prior's own error. Where depth was measured, the anchors judge.
        """
        settings, prior = self._settings, self._distillation
        if not (settings.min_fall and settings.sds_weight and self._prior.knows_light and prior):
            return ""
        if self._anchors or settings.steps < JUDGED_FROM:
            return ""
        draws = prior.draw(JUDGED, torch.Generator().manual_seed(settings.seed), 0.5)
        try:
            before, after = (
                self._in_memory(prior, JUDGED, partial(prior.loss, *self._normals(one), draws))
                for one in (self._readout.depth(self._fast), depth[None])
            )
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            self._notes.append("memory ran out before the prior could judge the result")
            return ""
        if before - after >= settings.min_fall:
            return ""
        return (
            f"the prior's loss fell from {before:.2g} to {after:.2g}, by less than {settings.min_fall:.2g}: "
            "it had little to object to"
        )

    @torch.no_grad()
    def result(self) -> Refinement:
        """The best so far: call it once the steps are done, or as soon as enough were.

        Where all of them are, the prior is asked what it says of it, which takes as long as some steps.
        """
        settings = self._settings
        parts = self._depths()
        fast = self._readout.depth(self._fast)[0]  # (h, w)
        finished = sum(len(part) for part in self._finished)
        steps = self._history[-1].step if self._history else 0
        steps = settings.steps if finished else steps

        reason = "" if self._finished else self._failure or ("" if parts else "no step was done")
        depth, spread = fast, torch.zeros_like(fast)
        if not reason:
            members = torch.cat(parts)  # (M, h, w)
            depth = members.mean(0)
            if len(members) > 1:
                spread = members.std(0) / depth
            reason = objection(depth, fast, settings.max_change, settings.min_contrast)
            if not reason and finished == settings.members:
                reason = self._objection_of_prior(depth)
        if reason:
            outcome, message = Outcome.KEPT_FAST, f"kept the fast depth: {reason}"
            refined, depth, spread = self._fast[0], fast, torch.zeros_like(fast)
        else:
            refined = self._readout.output(depth)
            moved = float((depth.log() - fast.log()).abs().mean())
            if finished == settings.members:
                outcome, message = Outcome.REFINED, f"refined: the depth moved by {moved:.1%} on average"
            else:
                outcome = Outcome.STOPPED_EARLY
                done = f"{finished} of {settings.members} members"
                if not finished:
                    done = f"{steps} of {settings.steps} steps"
                why = f", since {self._failure}" if self._failure else ""
                message = (
                    f"stopped after {done}{why}: the best so far; the depth moved by {moved:.1%} on average"
                )
        unit = self._readout.unit
        return Refinement(
            refined.float().cpu(),
            self._fast[0].float().cpu(),
            spread.float().cpu(),
            (depth / unit).float().cpu(),
            (fast / unit).float().cpu(),
            outcome,
            "; ".join([message, *self._notes]),
            steps,
            time.monotonic() - self._started,
            tuple(self._history),
            self._prompt,
            self.scale,
        )

    def _step(self, group: Members, progress: float) -> tuple[Tensor, _Losses]:
        """One step of a group, so far through its steps: its depths (M, h, w), and the losses."""
        prior = self._distillation
        assert prior is not None  # without it there are no steps
        count = group.count * self._settings.lights
        draws = prior.draw(count, self._generator, progress)
        return self._in_memory(prior, count, partial(self._descend, group, prior, draws))

    def _in_memory(self, asked: Distillation, count: int, work: Callable[[], ResultT]) -> ResultT:
        """What a piece of work on so many re-lit pictures gives, in smaller chunks where memory runs out."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or asked.chunk == 1:
                    raise
            # Outside of the except clause, which would keep the failed work's tensors alive.
            asked.chunk = max(1, min(asked.chunk, count) // 2)
            self._notes.append(f"memory ran out: {asked.chunk} re-lit pictures at once from then on")
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _descend(self, group: Members, prior: Distillation, draws: Draws) -> tuple[Tensor, _Losses]:
        settings = self._settings
        group.optimiser.zero_grad(set_to_none=True)
        output = group.decode()  # (M, h, w)
        if self._trust:
            output = self._trust.bound(output)
        depth = self._readout.depth(output, group.offset)  # (M, h, w)
        normals, view = self._normals(depth)  # (M, 3, h, w)

        roots: list[Tensor] = []
        upstream: list[Tensor] = []
        sds = 0.0
        if settings.sds_weight:
            gradient, sds = prior.gradient(normals, view, draws)
            roots.append(normals)
            upstream.append(GRADIENT_SCALE * settings.sds_weight * gradient)
        smoothness = laplacian_smoothness(scaled_to_unit(output))
        if settings.smoothness:
            roots.append(GRADIENT_SCALE * settings.smoothness * smoothness)
            upstream.append(torch.ones_like(smoothness))
        misses = 0.0
        if self._anchors and self._scale:
            # Of the output that the result will be, with the scale offset in it.
            disparity = disparity_of(self._readout.output(depth), self._model.metric)
            miss = anchor_loss(self._scale.depth(disparity), self._anchors)
            roots.append(GRADIENT_SCALE * settings.anchor_weight * miss)
            upstream.append(torch.ones_like(miss))
            misses = float(miss.detach())
        torch.autograd.backward(roots, upstream)
        group.step()
        return depth.detach(), _Losses(sds, float(smoothness.detach()), misses)

    def _normals(self, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Normals of depths (M, h, w) and the way to the camera, both in the optical frame."""
        if self._intrinsics is None:
            view = depth.new_tensor([0.0, 0.0, -1.0])[None, :, None, None]
            return normals_from_points(orthographic_points(depth)), view
        rays = pixel_rays(self._intrinsics, device=depth.device)  # (3, h, w)
        return normals_from_points(points_from_depth(depth, rays)), -normalize(rays, dim=0)[None]
