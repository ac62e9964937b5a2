"""The loop of a refinement: ensemble members in batches, their steps, and what stops them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from redepth_ros.core.errors import OutOfMemory
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.refine.ensemble import DepthAverage, Ensemble
from redepth_ros.core.refine.guidance import Interrupted
from redepth_ros.core.refine.networks import DepthNetwork, Embeddings
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.result import Step
from redepth_ros.core.refine.schedule import Schedule, StopSignal
from redepth_ros.core.refine.settings import RefineSettings

__all__ = ["Optimization"]

ResultT = TypeVar("ResultT")


class Optimization:
    """Optimises all ensemble members, those of a batch together."""

    def __init__(
        self,
        objective: Objective,
        network: DepthNetwork,
        embeddings: Embeddings,
        settings: RefineSettings,
        stop: StopSignal,
    ) -> None:
        """Args:
        objective: the loss of the image.
        network: with the decoder.
        embeddings: of the image.
        settings: of the refinement.
        stop: ends the steps early.
        """
        self._objective, self._network, self._embeddings = objective, network, embeddings
        self._settings, self._stop = settings, stop
        self.schedule = Schedule(settings, stop)
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._finished: list[Tensor] = []  # depths (M, h, w) of members that did all steps
        self._working: tuple[Ensemble, DepthAverage] | None = None
        self.history: list[Step] = []
        self.notes: list[str] = []
        """What the user should know, for example smaller batches."""
        self.failure = ""
        """Why the members at work failed; empty if they did not."""

    @property
    def finished(self) -> int:
        """Number of members that did all steps."""
        return sum(len(part) for part in self._finished)

    @property
    def steps_done(self) -> int:
        """Steps of each finished member or, before there are any, of those at work."""
        steps = [one.step for one in self.history if not self._finished or one.step == one.steps]
        return (min(steps) if self._finished else steps[-1]) if steps else 0

    def steps(self) -> Iterator[Step]:
        """Do one step after another until all are done, the stop signal is set, or a step fails."""
        size = self._settings.ensemble_size
        batch = min(self._settings.ensemble_batch_size or size, size)
        while self.finished < self.schedule.plan.ensemble_size and not self.failure:
            first = self.finished
            count = min(batch, self.schedule.plan.ensemble_size - first)
            self.schedule.begin(first, count, batch)
            try:
                yield from self._optimise(first, count)
            except Interrupted:
                return
            except OutOfMemory:
                if count == 1:
                    self.failure = "memory ran out even for a single re-lit image"
                    return
                self._working = None  # releases the larger ensemble
                batch = count // 2
                self.notes.append(f"memory ran out: the ensemble batch size was lowered to {batch}")

    def _optimise(self, first: int, count: int) -> Iterator[Step]:
        """Do all planned steps of `count` members, or of those that the time budget leaves."""
        settings, objective, schedule = self._settings, self._objective, self.schedule
        anchored = objective.anchors is not None
        rate = settings.anchored_learning_rate if anchored else settings.embedding_learning_rate
        with memory_errors():
            ensemble = Ensemble(self._network, self._embeddings, count, settings, rate)
        average = DepthAverage(1.0 - settings.averaging_fraction)
        while not schedule.completed:
            images = ensemble.size * schedule.plan.lights_per_step
            samples = objective.guidance.sample(images, self._generator, schedule.progress)
            ensemble.decay(schedule.progress)
            depth, losses = self.in_memory(images, partial(objective.step, ensemble, samples))
            if not math.isfinite(losses.total) or not bool(depth.isfinite().all()):
                self.failure = f"the loss was {losses.total} in step {schedule.done + 1}"
                return
            if schedule.done:
                average = average.add(schedule.progress, depth)
            schedule.advance()
            if schedule.members < ensemble.size:
                ensemble.keep(schedule.members)
                average = average.keep(schedule.members)
            self._working = ensemble, average
            values = (losses.total, losses.sds, losses.smoothness, losses.anchors)
            plan = schedule.plan
            self.history.append(
                Step(first, ensemble.size, plan.ensemble_size, schedule.done, plan.steps, *values)
            )
            if schedule.completed:
                self._finished.append(self._current())
                self._working = None
            yield self.history[-1]
            if self._stop.is_set():
                raise Interrupted

    def depths(self) -> Tensor | None:
        """Return the depths (M, h, w) of the finished members or, before there are any, of those at work.

        Beside a finished member, one that has just started would pull the mean back to the fast depth.
        None before the first step.
        """
        if self._finished:
            return torch.cat(self._finished)
        return None if self._working is None else self._current()

    def _current(self) -> Tensor:
        """Return the averaged depths (M, h, w) of the members at work, their last update included."""
        assert self._working is not None
        ensemble, average = self._working
        return average.add(self.schedule.progress, self._objective.depth(ensemble)).mean()

    def in_memory(self, images: int, work: Callable[[], ResultT]) -> ResultT:
        """Return the result of work on some re-lit images, in smaller batches if memory runs out.

        Raises:
            OutOfMemory: memory does not suffice for one image.
        """
        guidance = self._objective.guidance
        while True:
            try:
                with memory_errors():
                    return work()
            except OutOfMemory:
                if guidance.batch_size == 1:
                    raise
            guidance.batch_size = max(1, min(guidance.batch_size, images) // 2)
            self.notes.append(f"memory ran out: the relit batch size was lowered to {guidance.batch_size}")
