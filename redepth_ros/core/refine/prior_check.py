"""The prior's judgement of a refinement: before the first step, early on, and of the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from redepth_ros.core.errors import OutOfMemory
from redepth_ros.core.refine.checks import check_initial_loss, check_loss_ratio, plane_of_same_slant
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["EARLY_STEP", "MIN_STEPS", "PriorCheck"]

SAMPLES = 32
"""Re-lit images by which the prior compares shapes."""
MIN_SAMPLES = 8
"""The same number where the time budget is short; see bench/time_budget.py."""
MIN_STEPS = 30
"""Steps of a member below which nothing is checked: fewer steps change little."""
EARLY_STEP = 20
"""Step after which the prior's preference for a plane shows."""

Control = tuple[str, Callable[[Tensor], Tensor], float]
"""A control shape: its name, its depth by that of the checked shape, and the largest ratio of the losses."""
PLANE, MIRROR_IMAGE = "a plane of the same slant", "its mirror image"


class PriorCheck:
    """Compares SDS losses of shapes under the same lights and noise.

    Applies to a light-conditioned prior without anchors; the loss of another prior is mostly noise, and
    with anchors these decide. Each check returns the reason to keep the fast depth, or an empty string.
    """

    def __init__(
        self,
        objective: Objective,
        settings: RefineSettings,
        light_conditioned: bool,
        in_memory: Callable[[int, Callable[[], float]], float],
    ) -> None:
        """Args:
        objective: the loss of the image.
        settings: of the refinement.
        light_conditioned: see `Prior.light_conditioned`.
        in_memory: runs work on a number of re-lit images, see `Optimization.in_memory`.
        """
        self._objective, self._settings, self._in_memory = objective, settings, in_memory
        self._samples = SAMPLES
        self._image_seconds = 0.0  # of one re-lit image
        long_enough = settings.steps >= MIN_STEPS
        self._applies = bool(light_conditioned and settings.sds_weight) and long_enough
        self._applies = self._applies and objective.anchors is None
        self.incomplete = ""
        """Why the last check could not be made; empty if it was made."""

    def check_start(self, fast: Tensor) -> str:
        """Check that the prior can improve the fast depth (h, w)."""
        limit = self._settings.min_initial_loss
        losses = self._losses(fast) if limit else None
        return check_initial_loss(losses[0], limit) if losses else ""

    def fit(self, seconds: float) -> None:
        """Compare shapes by fewer samples where a time is too short for all steps and checks.

        An image takes at least as long in a step as in a check, by which it was timed. A time that suffices
        therefore changes nothing.
        """
        settings = self._settings
        optimised = settings.steps * settings.ensemble_size * settings.lights_per_step
        needed = optimised * self._image_seconds + self.seconds_left(0)
        if max(seconds, 0.0) < needed:
            self._samples = max(MIN_SAMPLES, int(SAMPLES * seconds / needed))

    def check_early(self, depth: Tensor, steps: int) -> str:
        """Check the depth (h, w) after EARLY_STEP of the planned steps against a plane."""
        return self._compare(depth, self._early_controls) if steps >= MIN_STEPS else ""

    def check_result(self, depth: Tensor, steps: int, out_of_time: bool = False) -> str:
        """Check the refined depth (h, w) after some steps against a plane and against its mirror image.

        Args:
            depth: to check.
            steps: done.
            out_of_time: whether the time budget allowed no more: too few steps are then a reason, too.
        """
        if steps >= MIN_STEPS:
            return self._compare(depth, self._result_controls)
        if not (out_of_time and self._applies and self._result_controls):
            return ""
        budget = f"the time budget of {self._settings.time_budget:g} s"
        return f"{budget} has room for {steps} steps, and the prior checks no fewer than {MIN_STEPS}"

    def seconds_left(self, done: int) -> float:
        """Return the time of the checks after some steps, by that of the last check; 0 before any."""
        checks = (
            (self._result_controls,) if done >= EARLY_STEP else (self._early_controls, self._result_controls)
        )
        shapes = sum(1 + len(controls) for controls in checks if controls)
        return self._image_seconds * self._samples * shapes

    @property
    def _early_controls(self) -> tuple[Control, ...]:
        return _enabled((PLANE, plane_of_same_slant, self._settings.max_early_loss_ratio))

    @property
    def _result_controls(self) -> tuple[Control, ...]:
        return _enabled(
            (PLANE, plane_of_same_slant, self._settings.max_plane_loss_ratio),
            (MIRROR_IMAGE, _mirror, self._settings.max_mirror_loss_ratio),
        )

    def _compare(self, depth: Tensor, controls: tuple[Control, ...]) -> str:
        """Compare a depth (h, w) with control shapes."""
        losses = self._losses(depth, *(shape(depth) for _, shape, _ in controls)) if controls else None
        if losses is None:
            return ""
        reasons = (
            check_loss_ratio(losses[0], loss, name, limit)
            for loss, (name, _, limit) in zip(losses[1:], controls, strict=True)
        )
        return next(filter(None, reasons), "")

    def _losses(self, *depths: Tensor) -> list[float] | None:
        """Return the SDS losses of depths (h, w) each; None where they tell nothing."""
        self.incomplete = ""
        if not self._applies:
            return None
        generator = torch.Generator().manual_seed(self._settings.seed)
        samples = self._objective.guidance.sample(self._samples, generator, 0.5)
        started = time.monotonic()
        try:
            losses = [
                self._in_memory(self._samples, partial(self._objective.prior_loss, depth[None], samples))
                for depth in depths
            ]
        except OutOfMemory:
            self.incomplete = "memory ran out before the prior could check the result"
            return None
        self._image_seconds = (time.monotonic() - started) / (len(depths) * self._samples)
        return losses


def _enabled(*controls: Control) -> tuple[Control, ...]:
    """Return the controls whose limit is not 0."""
    return tuple(control for control in controls if control[2])


def _mirror(depth: Tensor) -> Tensor:
    return depth.flip(-1)
