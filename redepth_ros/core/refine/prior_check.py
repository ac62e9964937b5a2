"""The prior's judgement of a refinement: before the first step, early on, and of the result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from redepth_ros.core.errors import OutOfMemory
from redepth_ros.core.refine.checks import check_initial_loss, check_loss_ratio, plane_of_same_slant
from redepth_ros.core.refine.guidance import Interrupted
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["EARLY_STEP", "PriorCheck"]

SAMPLES = 32
"""Re-lit images by which the prior compares shapes."""
MIN_STEPS = 30
"""Steps of a member below which nothing is checked: fewer steps change little."""
EARLY_STEP = 20
"""Step after which the prior's preference for a plane shows."""

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

    def check_early(self, depth: Tensor) -> str:
        """Check the depth (h, w) after EARLY_STEP steps against a plane."""
        limit = self._settings.max_early_loss_ratio
        losses = self._losses(depth, plane_of_same_slant(depth)) if limit else None
        return check_loss_ratio(losses[0], {PLANE: losses[1]}, limit) if losses else ""

    def check_result(self, depth: Tensor, steps: int) -> str:
        """Check the refined depth (h, w) after some steps against a plane and against its mirror image."""
        limit = self._settings.max_loss_ratio if steps >= MIN_STEPS else 0.0
        losses = self._losses(depth, plane_of_same_slant(depth), depth.flip(-1)) if limit else None
        if losses is None:
            return ""
        return check_loss_ratio(losses[0], {PLANE: losses[1], MIRROR_IMAGE: losses[2]}, limit)

    def _losses(self, *depths: Tensor) -> list[float] | None:
        """Return the SDS losses of depths (h, w) each; None where they tell nothing."""
        self.incomplete = ""
        if not self._applies:
            return None
        generator = torch.Generator().manual_seed(self._settings.seed)
        samples = self._objective.guidance.sample(SAMPLES, generator, 0.5)
        try:
            return [
                self._in_memory(SAMPLES, partial(self._objective.prior_loss, depth[None], samples))
                for depth in depths
            ]
        except OutOfMemory:
            self.incomplete = "memory ran out before the prior could check the result"
        except Interrupted:
            self.incomplete = "the prior did not check the result, because the run was stopped"
        return None
