"""Tasks, and the part of a worker that does them with its networks."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import cv2
import torch

from redepth_ros.cli.workers.networks import EngineFacts, EngineOptions
from redepth_ros.core.errors import RedepthError
from redepth_ros.core.refine.result import Step
from redepth_ros.models.engine import Engine

__all__ = ["OnStep", "Raised", "Task", "TaskRunner", "ignore_step", "run_task"]

ResultT_co = TypeVar("ResultT_co", covariant=True)
OnStep = Callable[[Step], bool]
"""Called after each optimisation step; returns whether to go on."""


class Task(Protocol[ResultT_co]):
    """Work on one image. Its result depends on its fields and the networks alone; both can be pickled."""

    def run(self, engine: Engine, on_step: OnStep) -> ResultT_co:
        """Return the result.

        Raises:
            RedepthError: the image can't be used.
        """
        ...

    def failed(self, reason: str) -> ResultT_co:
        """Return the result of a task that failed."""
        ...


def ignore_step(_: Step) -> bool:
    """Go on."""
    return True


def run_task(engine: Engine, task: Task[ResultT_co], on_step: OnStep = ignore_step) -> ResultT_co:
    """Return the result of a task, also if it fails."""
    try:
        return task.run(engine, on_step)
    except RedepthError as error:
        return task.failed(str(error))


@dataclass(frozen=True)
class Raised:
    """An error that ends the command: the networks can't be loaded, or the program is faulty."""

    error: Exception
    trace: str

    @classmethod
    def now(cls, error: Exception) -> Raised:
        """Return an error with its traceback, which pickling would lose."""
        return cls(error, traceback.format_exc())


class TaskRunner:
    """Loads networks and does tasks with them; messages are pickled."""

    def __init__(self, options: EngineOptions, device: str, threads: int) -> None:
        """Args:
        options: of the networks.
        device: to load them on.
        threads: largest number of CPU threads.
        """
        self._options, self._device, self._threads = options, device, threads
        self._engine: Engine | None = None

    def start(self) -> bytes:
        """Load the networks, and return their `EngineFacts`; or `Raised`."""
        # OMP_NUM_THREADS, if it is set, is what torch has now.
        torch.set_num_threads(min(torch.get_num_threads(), self._threads))
        cv2.setNumThreads(self._threads)
        try:
            self._engine = self._options.load(self._device)
            return pickle.dumps(EngineFacts.of(self._engine))
        except Exception as error:  # raised again where the command runs
            return pickle.dumps(Raised.now(error))

    def run(self, task: bytes) -> bytes:
        """Return the result of a `Task`; or `Raised`."""
        assert self._engine is not None
        try:
            work: Task[Any] = pickle.loads(task)
            return pickle.dumps(run_task(self._engine, work))
        except Exception as error:  # raised again where the command runs
            return pickle.dumps(Raised.now(error))

    def pid(self) -> int:
        """Return the number of this process."""
        return os.getpid()
