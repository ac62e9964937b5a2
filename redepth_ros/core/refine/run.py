"""A refinement run: test-time optimisation of depth features under a diffusion prior.

Source: Bhattarai and Rhodin, Re-Depth Anything, arXiv 2512.17908, section 3. The preset `paper`
follows it exactly; docs/explanation/method.md says how `default` differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from redepth_ros.core.camera import Camera, OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, ModelError, OutOfMemory
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import MIN_ANCHORS
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.refine.anchoring import Anchoring
from redepth_ros.core.refine.checks import check_change
from redepth_ros.core.refine.guidance import SdsGuidance
from redepth_ros.core.refine.networks import DepthNetwork, Prior, known_scale
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.optimization import Optimization
from redepth_ros.core.refine.parametrization import DepthParametrization
from redepth_ros.core.refine.prior_check import EARLY_STEP, MIN_STEPS, PriorCheck
from redepth_ros.core.refine.result import Outcome, Plan, Refinement, Step
from redepth_ros.core.refine.schedule import StopSignal
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion
from redepth_ros.core.validity import check_output

__all__ = ["Refiner", "Run"]


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
            anchors: measured depth of the image at any size, at best its own.
            scale: of the network's output, if known; None fits it to the anchors. If they do not determine
                it, the run keeps the fast depth; its result has the interpolated anchors.

        Raises:
            ConfigError: a camera of another size.
            AnchorError: the anchors do not determine the scale, and are too few to be interpolated.
            ModelError: memory does not suffice for the fast depth, or it is NaN throughout.
        """
        height, width = pixels.shape[-2:]
        if camera and (camera.height, camera.width) != (height, width):
            raise ConfigError(
                f"camera: size is {camera.width}x{camera.height} pixels, the network's input has "
                f"{width}x{height}; use camera.resized({width}, {height})"
            )
        anchors = anchors if self.settings.anchor_weight else None
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
        self._network, self._prior = refiner.network, refiner.prior
        self._settings = settings = refiner.settings
        self._prompt = prompt
        self._stop = StopSignal(settings.time_budget)
        try:
            with torch.no_grad(), memory_errors():
                embeddings = self._network.encode(pixels)
                self._fast = self._network.decode(embeddings)  # (1, h, w)
                self._image = self._network.image(pixels).float()  # (1, 3, h, w)
        except OutOfMemory as error:
            height, width = pixels.shape[-2:]
            raise ModelError(
                f"{error} when the depth network processed {width}x{height} pixels; lower the input size or "
                "choose a smaller network"
            ) from None
        check_output(self._fast, pixels.dtype)
        self.known_scale = known_scale(self._network, embeddings, camera)
        """Scale of the output that the network knows itself; None if it knows none."""
        self._parametrization = DepthParametrization.for_output(
            self._fast,
            settings.depth_scale,
            settings.disparity_offset,
            self._network.metric,
            settings.disparity_mean,
        )
        self._anchors = anchors
        self._failure = ""
        self._anchoring: Anchoring | None = None
        if anchors:
            try:
                self._anchoring = self._make_anchoring(anchors, scale)
            except AnchorError as error:
                if len(anchors) < MIN_ANCHORS:
                    raise
                self._failure = f"{error}; the anchors were interpolated"
        self._optimization: Optimization | None = None
        self._prior_check: PriorCheck | None = None
        if self._failure:
            return
        try:
            with memory_errors():
                objective = self._make_objective(camera)
        except OutOfMemory:
            self._failure = "memory ran out before the first step"
        else:
            self._optimization = Optimization(objective, self._network, embeddings, settings, self._stop)
            self._prior_check = PriorCheck(
                objective, settings, self._prior.light_conditioned, self._optimization.in_memory
            )

    @property
    def metric(self) -> bool:
        """Whether the network's output is depth in metres."""
        return self._network.metric

    @property
    def scale(self) -> Scale | None:
        """Relates the network's output to the anchors' metres; None if it is unknown."""
        return self._anchoring.scale if self._anchoring else None

    @property
    def check_seconds(self) -> float:
        """Time that the prior needs to check the result, seconds, by that of its last check; 0 before any."""
        return self._prior_check.seconds_left(EARLY_STEP) if self._prior_check else 0.0

    def _make_anchoring(self, anchors: Anchors, scale: Scale | None) -> Anchoring:
        anchors = anchors.resized(*self._fast.shape[-2:])
        if scale is None:
            sampled = anchors.sample(self._disparity(self._fast[0]))
            fitted = fit_scale(sampled.cpu().numpy(), anchors.depth, fit_shift=not self._network.metric)
            scale = fitted.scale
        return Anchoring(anchors, scale, self._image, self._settings.held_out_fraction)

    def _make_objective(self, camera: Camera) -> Objective:
        settings, fast, anchoring = self._settings, self._fast, self._anchoring
        trust_region = None
        if settings.trust_region_radius:
            sigma = settings.trust_region_radius * min(fast.shape[-2:])
            limit = settings.anchored_trust_region_limit if anchoring else settings.trust_region_limit
            trust_region = TrustRegion(fast, sigma, limit)
        return Objective(
            guidance=SdsGuidance(self._prior, self._image, self._prompt, settings, self._stop.is_set),
            parametrization=self._parametrization,
            camera=camera,
            trust_region=trust_region,
            anchors=anchoring.guiding if anchoring else None,
            scale=self.scale,
            log_correction=anchoring.log_correction(self._disparity(fast[0])) if anchoring else None,
            settings=settings,
        )

    def _disparity(self, output: Tensor) -> Tensor:
        return disparity_from_output(output, self._network.metric)

    def request_stop(self) -> None:
        """Stop before the next batch of re-lit images; may be called by any thread."""
        self._stop.request()

    def steps(self) -> Iterator[Step]:
        """Do one optimisation step after another until all planned ones are done, or the run is stopped.

        The steps are planned so that they and the checks of the result end within the time budget. If that
        fails, it ends them, as `request_stop` does, also in the middle of one. So do the prior's checks
        and failures (memory that does not suffice for one image, a loss that is not finite); `result` then
        uses the finished members or keeps the fast depth.
        """
        work, check = self._optimization, self._prior_check
        if work is None or check is None:
            return
        if float((self._image.amax((-2, -1)) - self._image.amin((-2, -1))).max()) < 1.0 / 255.0:
            self._failure = "the image has a single colour, so that there is no shading"
            return
        self._failure = check.check_start(self._parametrization.depth(self._fast)[0])
        if self._failure:
            return
        check.fit(self._stop.planned_left)
        work.schedule.check_seconds = check.seconds_left(0)
        for step in work.steps():
            yield step
            if step.step == EARLY_STEP and not step.members_done:
                depths = work.depths()
                assert depths is not None
                self._failure = check.check_early(depths.mean(0), step.steps)
                if self._failure:
                    return
                work.schedule.check_seconds = check.seconds_left(EARLY_STEP)
                work.schedule.restart_clock()

    @torch.no_grad()
    def result(self) -> Refinement:
        """Return the best depth so far; call it after the last step or at any time before.

        Anchors or the prior check it first, which takes as long as a few steps.
        """
        settings, parametrization, work = self._settings, self._parametrization, self._optimization
        fast = parametrization.depth(self._fast)[0]  # (h, w)
        depths = work.depths() if work else None
        history = tuple(work.history) if work else ()
        finished, steps = (work.finished, work.steps_done) if work else (0, 0)
        plan = work.schedule.plan if work else Plan.of(settings)
        failure = self._failure or (work.failure if work else "")
        if self._stop.is_late and finished < plan.ensemble_size:
            failure = failure or f"the time budget of {settings.time_budget:g} s is spent"

        depth, relative_stddev = fast, torch.zeros_like(fast)
        reason = "" if finished else self._failure or (work.failure if work else "")
        if not reason and depths is None:
            reason = ", ".join(filter(None, (failure, "no step was done")))
        if not reason:
            assert depths is not None
            depth = depths.mean(0)
            if len(depths) > 1:
                relative_stddev = depths.std(0) / depth
            reason = check_change(depth, fast, settings.max_change, settings.min_contrast)
            out_of_time = plan.steps < MIN_STEPS or self._stop.is_late
            reason = reason or self._check_result(depth, steps, out_of_time)
        if reason:
            outcome, message = Outcome.KEPT_FAST, f"kept the fast depth: {reason}"
            refined, depth, relative_stddev = self._fast[0], fast, torch.zeros_like(fast)
        else:
            refined = parametrization.output(depth)
            outcome, message = _describe(plan, finished, steps, failure, depth, fast)
        return Refinement(
            refined=refined.float().cpu(),
            fast=self._fast[0].float().cpu(),
            relative_stddev=relative_stddev.float().cpu(),
            depth=(depth / parametrization.unit).float().cpu(),
            fast_depth=(fast / parametrization.unit).float().cpu(),
            outcome=outcome,
            message="; ".join([message, *self._notes()]),
            steps=steps,
            elapsed=self._stop.elapsed,
            history=history,
            plan=plan,
            prompt=self._prompt,
            scale=self.scale,
            known_scale=self.known_scale,
            metric=self.metric,
            disparity_offset=parametrization.offset / parametrization.gain,
            anchors=self._anchors,
            image=self._image[0].permute(1, 2, 0).cpu(),
        )

    def _check_result(self, depth: Tensor, steps: int, out_of_time: bool) -> str:
        """Return why the anchors, or without them the prior, reject a depth (h, w); or an empty string."""
        if self._anchoring:
            refined = self._disparity(self._parametrization.output(depth))
            return self._anchoring.check(self._disparity(self._fast[0]), refined)
        return self._prior_check.check_result(depth, steps, out_of_time) if self._prior_check else ""

    def _notes(self) -> list[str]:
        """Return what the user should know besides the outcome."""
        warning = self._prior.prompt_warning(self._prompt)
        unchecked = self._prior_check.incomplete if self._prior_check else ""
        work = self._optimization
        planned = work.schedule.plan.describe(self._settings) if work and work.history else ""
        notes = work.notes if work else []
        return list(dict.fromkeys([*filter(None, (planned, warning, unchecked)), *notes]))


def _describe(
    plan: Plan, finished: int, steps: int, failure: str, depth: Tensor, fast: Tensor
) -> tuple[Outcome, str]:
    """Return the outcome of a depth that passed its checks, and its message."""
    change = f"the depth changed by {float((depth / fast).log().abs().mean()):.1%} on average"
    if finished == plan.ensemble_size:
        return Outcome.REFINED, f"refined: {change}"
    done = f"{steps} of {plan.steps} steps"
    if finished:
        done = f"{finished} of {plan.ensemble_size} ensemble members"
    cause = f" because {failure}" if failure else ""
    return Outcome.STOPPED_EARLY, f"stopped after {done}{cause}: this is the best so far; {change}"
