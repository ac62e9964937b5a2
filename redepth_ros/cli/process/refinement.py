"""Refinement of keyframes, here or in other processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ModelError, RedepthError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine

__all__ = ["EngineOptions", "LocalRefinement", "RefineJob", "Refined", "Refinement", "WorkerRefinement"]

MAX_ATTEMPTS = 3
"""Attempts at a keyframe whose worker died."""


@dataclass(frozen=True)
class EngineOptions:
    """What the networks are loaded by."""

    model: str
    prior: str
    vae: str = ""
    captioner: str = ""
    device: str = "auto"
    precision: str = "auto"

    def load(self, device: str = "") -> Engine:
        """Load the networks, on another device if one is named."""
        return Engine.load(
            self.model,
            self.prior,
            vae=self.vae,
            captioner=self.captioner,
            device=device or self.device,
            precision=self.precision,
        )


@dataclass(frozen=True)
class RefineJob:
    """A keyframe to refine, and how."""

    index: int
    image: NDArray[np.uint8]
    camera: PinholeCamera | None
    anchors: Anchors | None
    scale: Scale | None
    """Of the fast depth; None if the depth has no unit."""
    settings: RefineSettings
    limits: DepthLimits
    assumed_relative_stddev: float
    prompt: str = ""
    input_size: int = 0


@dataclass(frozen=True)
class Refined:
    """The result of a job; maps are (H, W), NaN where invalid."""

    index: int
    outcome: str
    message: str
    seconds: float
    depth: NDArray[np.float32] | None = None
    stddev: NDArray[np.float32] | None = None


def refine(engine: Engine, job: RefineJob, on_step: Callable[[float], bool] | None = None) -> Refined | None:
    """Refine a keyframe.

    Args:
        engine: the networks.
        job: the keyframe.
        on_step: called after each step with the share that is done; returns whether to go on.

    Returns:
        None if `on_step` ended it.
    """
    started = time.monotonic()
    try:
        run = engine.start(
            job.image,
            job.settings,
            camera=job.camera,
            prompt=job.prompt,
            input_size=job.input_size,
            anchors=job.anchors,
            scale=job.scale,
        )
        for step in run.steps():
            if on_step is not None and not on_step(step.progress):
                return None
        result = run.result()
    except RedepthError as error:
        return Refined(job.index, "failed", str(error), time.monotonic() - started)
    full = result.at_size(*job.image.shape[:2])
    scale = job.scale or run.scale or Scale()
    scaled = full.scaled(scale, job.assumed_relative_stddev)
    depth, stddev = job.limits.apply(scaled.depth, scaled.stddev)
    assert stddev is not None
    seconds = time.monotonic() - started
    return Refined(job.index, result.outcome.label, result.message, seconds, depth.numpy(), stddev.numpy())


class Refinement(Protocol):
    """Where keyframes are refined."""

    def submit(self, job: RefineJob) -> Iterator[Refined]:
        """Take a job; yield results that are ready, and wait for some if too many jobs are at work."""
        ...

    def drain(self) -> Iterator[Refined]:
        """Yield the results of all jobs."""
        ...

    def close(self) -> None:
        """End; jobs at work are lost."""
        ...


class LocalRefinement:
    """In this process, one after the other."""

    def __init__(self, engine: Engine, on_step: Callable[[float], bool]) -> None:
        self._engine, self._on_step = engine, on_step

    def submit(self, job: RefineJob) -> Iterator[Refined]:
        """Refine, and yield the result; nothing if `on_step` ended it."""
        result = refine(self._engine, job, self._on_step)
        if result is not None:
            yield result

    def drain(self) -> Iterator[Refined]:
        """Yield nothing: nothing waits."""
        return iter(())

    def close(self) -> None:
        """Do nothing."""


@dataclass
class _Work:
    job: RefineJob
    attempts: int = 1


@dataclass
class WorkerRefinement:
    """In several processes, each with networks of its own.

    A worker that dies is replaced, and the keyframes at work are done again. Each keyframe's refinement
    depends on its job alone, so that the results do not depend on the number of workers.
    """

    engine: EngineOptions
    workers: int
    devices: tuple[str, ...] = ("auto",)
    should_stop: Callable[[], bool] = lambda: False
    _pool: ProcessPoolExecutor | None = None
    _at_work: dict[Future[Refined], _Work] = field(default_factory=dict)

    def submit(self, job: RefineJob) -> Iterator[Refined]:
        """Hand a job over; wait while every worker has one at work and one waiting."""
        self._hand_over(_Work(job))
        yield from self._collect(2 * self.workers)

    def drain(self) -> Iterator[Refined]:
        """Wait for all jobs."""
        yield from self._collect(0)

    def _hand_over(self, work: _Work) -> None:
        for _ in range(MAX_ATTEMPTS):
            try:
                if self._pool is None:
                    self._pool = self._make_pool()
                self._at_work[self._pool.submit(_refine_in_worker, work.job)] = work
                return
            except BrokenProcessPool:
                self._pool = None
        raise ModelError("workers end again and again while they load the networks; see their messages above")

    def _make_pool(self) -> ProcessPoolExecutor:
        # Forking a process with threads of torch in it would block.
        context = multiprocessing.get_context("spawn")
        numbers = context.Queue()
        for number in range(1000):
            numbers.put(number)
        threads = max(1, (os.cpu_count() or 1) // self.workers)
        arguments = (self.engine, self.devices, numbers, threads)
        return ProcessPoolExecutor(self.workers, context, _start_worker, arguments)

    def _collect(self, most: int) -> Iterator[Refined]:
        """Yield results until at most so many jobs are at work; those that are ready in any case."""
        while self._at_work and not self.should_stop():
            done, _ = wait(self._at_work, 0.2 if len(self._at_work) > most else 0.0, FIRST_COMPLETED)
            lost = []
            for future in done:
                work = self._at_work.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    lost.append(work)
            if lost:
                yield from self._repeat(lost)
            if not done and len(self._at_work) <= most:
                return

    def _repeat(self, lost: list[_Work]) -> Iterator[Refined]:
        """Start new workers, and hand over the jobs of the dead ones again."""
        lost += self._at_work.values()
        self._at_work.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None
        for work in lost:
            if work.attempts < MAX_ATTEMPTS:
                self._hand_over(_Work(work.job, work.attempts + 1))
            else:
                yield Refined(work.job.index, "failed", f"its worker died {MAX_ATTEMPTS} times", 0.0)

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


_engine: Engine | None = None
"""The networks of a worker."""


def _start_worker(options: EngineOptions, devices: tuple[str, ...], numbers: Any, threads: int) -> None:
    """Load the networks of a worker, on the device that its number gives."""
    import signal

    global _engine
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends the workers
    torch.set_num_threads(threads)
    _engine = options.load(devices[numbers.get() % len(devices)])


def _refine_in_worker(job: RefineJob) -> Refined:
    assert _engine is not None
    result = refine(_engine, job)
    assert result is not None
    return result
