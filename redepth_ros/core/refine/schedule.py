"""The schedule of an optimisation: how far it is, and how many steps fit into its time budget."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace

from redepth_ros.core.refine.prior_check import MIN_STEPS
from redepth_ros.core.refine.result import Plan
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["Schedule", "StopSignal"]

PLANNED_SHARE = 0.97
"""Share of the time budget that is planned; the rest is for the result itself."""
COOL_DOWN_SHARE = 0.25
"""Last share of fewer steps, in which the rest of the schedule is run."""
ENOUGH_STEPS_SHARE = 0.6
"""Share of the steps above which members and lights are worth more than further steps."""
IMAGES_EXPONENT = 1.0 / 3.0
"""By which power of the number of members and lights a step is worth more; see bench/time_budget.py."""
LONG_SHARE = 0.1
"""Share of the time left above which a first step counts, though it also sets up kernels and memory."""
SMOOTHING = 0.1
"""Weight of the newest step in the running mean of the time per step."""
MIN_USE = 0.9
"""Share of the time left below which the planned steps are raised."""


class StopSignal:
    """Tells an optimisation to stop: on request, or when its time budget is spent."""

    def __init__(self, time_budget: float) -> None:
        """Args:
        time_budget: seconds from now; 0 disables the limit.
        """
        self._started, self._time_budget = time.monotonic(), time_budget or math.inf
        self._requested = False
        self.reserve = 0.0
        """Seconds of the budget that are left to the checks of the result."""

    @property
    def elapsed(self) -> float:
        """Seconds since construction."""
        return time.monotonic() - self._started

    @property
    def planned_left(self) -> float:
        """Seconds that are left of the planned share of the budget; infinite without a budget."""
        return PLANNED_SHARE * self._time_budget - self.elapsed

    @property
    def is_late(self) -> bool:
        """Whether the budget is spent up to the reserve, without a request to stop."""
        return not self._requested and self.elapsed > self._time_budget - self.reserve

    def request(self) -> None:
        """Stop as soon as possible; may be called by any thread."""
        self._requested = True

    def is_set(self) -> bool:
        """Return whether to stop now."""
        return self._requested or self.is_late


class Schedule:
    """The progress of the members at work, and the plan of all.

    Learning rates and noise levels are functions of the progress. It grows by 1 / steps in each step. With a
    time budget the steps are timed, and where not all of them fit, fewer are planned: the last of these run
    the rest of the schedule. If few steps are left, members are given up first, then lights.
    """

    def __init__(self, settings: RefineSettings, stop: StopSignal) -> None:
        """Args:
        settings: of the refinement.
        stop: has the time budget.
        """
        self._settings, self._stop = settings, stop
        self.plan = Plan.of(settings)
        self.check_seconds = 0.0
        """Time of the checks to come, which are made from MIN_STEPS planned steps on."""
        self.begin(0, 1, 1)

    def begin(self, finished: int, members: int, batch: int) -> None:
        """Begin with the first step of some members.

        Args:
            finished: members that are finished.
            members: at work from now on.
            batch: members of each later batch.
        """
        self.members, self._finished, self._batch = members, finished, batch
        self.done, self.progress = 0, 0.0
        self._origin = 0, 0.0  # steps done and progress, from which the progress grows linearly
        self._timed, self._step_seconds = 0, 0.0
        self._fitted = False  # whether members and lights stay as they are
        self._earlier = 0, 0.0  # images of a step before the last change, and its time; 0 before any
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leave the time since the last step out of the time per step."""
        self._last = time.monotonic()

    @property
    def completed(self) -> bool:
        """Whether the members at work have done all planned steps."""
        return self.done >= self.plan.steps

    def advance(self) -> None:
        """Count a step, and plan the rest by the time that it took."""
        now = time.monotonic()
        elapsed, self._last = now - self._last, now
        self.done += 1
        self._grow()
        if self._settings.time_budget:
            self._measure(elapsed)
        if self.completed:
            self.progress = 1.0

    def _grow(self) -> None:
        """Let the progress grow by a step: as without a budget at first, then so that it ends at 1."""
        steps, (done, progress) = self._settings.steps, self._origin
        usual = self.plan.steps == steps or self.done <= (1.0 - COOL_DOWN_SHARE) * self.plan.steps
        if usual and progress == done / steps:
            self.progress = self.done / steps
            self._origin = self.done, self.progress
        else:
            self.progress = progress + (1.0 - progress) * ((self.done - done) / (self.plan.steps - done))

    def _measure(self, elapsed: float) -> None:
        """Plan by the time of one more step."""
        self._timed += 1
        weight = 1.0 if self._timed <= 2 else SMOOTHING
        self._step_seconds += weight * (elapsed - self._step_seconds)
        if self._timed == 1 and elapsed < LONG_SHARE * self._stop.planned_left:
            return
        if not self._fitted:
            self._fit()
        planned, fitting = self.plan.steps, self._steps_that_fit(self.plan, self._step_seconds)
        if planned > fitting or planned - self.done < MIN_USE * (fitting - self.done):
            self.plan = replace(self.plan, steps=fitting)
            self._origin = self.done, self.progress
        self._stop.reserve = self.check_seconds if self.plan.steps >= MIN_STEPS else 0.0

    def _fit(self) -> None:
        """Give up members and lights that are worth less than the steps in their place.

        The time of a step grows with its images as it did between the last two numbers of images; before
        there are two, it is proportional. At most half of the images are given up, then they are timed.
        """
        present, measured = self.members * self.plan.lights_per_step, self._step_seconds
        enough = ENOUGH_STEPS_SHARE * self._settings.steps
        earlier, earlier_seconds = self._earlier
        slope = (
            max(0.0, (earlier_seconds - measured) / (earlier - present)) if earlier else measured / present
        )

        def seconds(choice: tuple[Plan, int]) -> float:
            plan, members = choice
            return measured + slope * (members * plan.lights_per_step - present)

        def worth(choice: tuple[Plan, int]) -> float:
            plan, _ = choice
            steps = self._steps_that_fit(plan, seconds(choice))
            return min(steps, enough) * math.pow(plan.ensemble_size * plan.lights_per_step, IMAGES_EXPONENT)

        choices = [one for one in self._smaller_plans() if 2 * one[1] * one[0].lights_per_step >= present]
        best = max(choices, key=worth)  # of equal ones the first, which is the largest
        self._fitted = best[0] == self.plan
        images = best[1] * best[0].lights_per_step
        if images < present:
            self._earlier = present, measured
            self._timed, self._step_seconds = 0, seconds(best)
        self.plan, self.members = best

    def _smaller_plans(self) -> Iterator[tuple[Plan, int]]:
        """Yield the present plan, then those with fewer members and lights, with the members at work."""
        for size in range(self.plan.ensemble_size, self._finished + self.members, -1):
            yield replace(self.plan, ensemble_size=size), self.members
        fewest = self.members if self._finished else 1
        for members in range(self.members, fewest - 1, -1):
            yield replace(self.plan, ensemble_size=self._finished + members), members
        last = replace(self.plan, ensemble_size=self._finished + fewest)
        for lights in range(self.plan.lights_per_step - 1, 0, -1):
            yield replace(last, lights_per_step=lights), fewest

    def _steps_that_fit(self, plan: Plan, step_seconds: float) -> int:
        """Return the steps of each member, those done included, that fit into the time left."""
        later = math.ceil((plan.ensemble_size - self._finished - self.members) / self._batch)

        def fitting(seconds: float) -> int:
            steps = int((self.done + max(0.0, seconds) / max(step_seconds, 1e-9)) / (1 + max(0, later)))
            return min(max(steps, self.done), self._settings.steps)

        left = self._stop.planned_left
        steps = fitting(left - self.check_seconds)
        return steps if steps >= MIN_STEPS else min(fitting(left), max(MIN_STEPS - 1, self.done))
