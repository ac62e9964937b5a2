"""Pools of workers: tasks go in, their results come out in the same order."""

from __future__ import annotations

import pickle
import sys
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TypeVar

from redepth_ros import __version__
from redepth_ros.cli.workers.networks import EngineFacts
from redepth_ros.cli.workers.task import OnStep, Raised, Task, ignore_step, run_task
from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.models.engine import Engine

__all__ = ["Pool", "SerialPool", "Team", "Worker", "WorkerDied", "WorkerPool"]

ResultT = TypeVar("ResultT")

MAX_ATTEMPTS = 2
"""Attempts at a task whose worker died."""
MAX_STARTS = 3
"""Starts of workers that die, one after the other, before they have loaded the networks."""
POLL = 0.2
"""Seconds between two looks at `should_stop`."""


class Pool(ABC):
    """Does tasks; results come in the order of the tasks."""

    @property
    @abstractmethod
    def facts(self) -> EngineFacts:
        """Of the networks; waits until they are loaded.

        Raises:
            RedepthError: they can't be loaded.
        """

    @abstractmethod
    def submit(self, task: Task[Any], on_step: OnStep = ignore_step) -> None:
        """Take a task.

        Args:
            task: to do.
            on_step: called after each step of a task that is done in this process.
        """

    @abstractmethod
    def ready(self) -> Iterator[Any]:
        """Yield results that are ready; wait for some if too many tasks are at work."""

    @abstractmethod
    def drain(self) -> Iterator[Any]:
        """Yield the results of all tasks."""

    def map(self, tasks: Iterable[Task[ResultT]], on_step: OnStep = ignore_step) -> Iterator[ResultT]:
        """Yield the results of tasks, which are taken as they are needed."""
        for task in tasks:
            self.submit(task, on_step)
            yield from self.ready()
        yield from self.drain()

    @abstractmethod
    def close(self) -> None:
        """End; tasks at work are lost."""

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SerialPool(Pool):
    """In this process: a task is done when it is submitted."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._facts = EngineFacts.of(engine)
        self._results: list[Any] = []

    @property
    def facts(self) -> EngineFacts:
        """Of the networks."""
        return self._facts

    def submit(self, task: Task[Any], on_step: OnStep = ignore_step) -> None:
        """Do a task."""
        self._results.append(run_task(self.engine, task, on_step))

    def ready(self) -> Iterator[Any]:
        """Yield the results since the last call."""
        results, self._results = self._results, []
        yield from results

    def drain(self) -> Iterator[Any]:
        """Yield the results since the last call."""
        return self.ready()

    def close(self) -> None:
        """Do nothing."""


class WorkerDied(Exception):  # noqa: N818
    """A worker ended without a message."""


class Worker(Protocol):
    """A `TaskRunner` in another process."""

    def send(self, task: bytes) -> None:
        """Hand a task over; raises WorkerDied."""
        ...

    def receive(self) -> bytes:
        """Return the next message, that of `TaskRunner.start` at first; raises WorkerDied."""
        ...

    def stop(self) -> None:
        """End the process at once."""
        ...


WorkerT = TypeVar("WorkerT", bound=Worker)


class Team(Protocol[WorkerT]):
    """Starts workers and waits for them."""

    size: int

    def start(self, number: int) -> WorkerT:
        """Start the worker of a number in [0, size); it loads its networks in the meantime."""
        ...

    def wait(self, workers: Sequence[WorkerT], timeout: float) -> Sequence[WorkerT]:
        """Return the workers that have a message or died; wait up to `timeout` seconds for the first."""
        ...

    def close(self) -> None:
        """Release the rest, after all workers have been stopped."""
        ...


@dataclass(eq=False)
class _Job:
    """A task on its way through the pool."""

    task: Task[Any]
    attempts: int = 0
    done: bool = False
    result: Any = None


@dataclass(eq=False)
class _Place:
    """The place of a worker, which keeps its number when the worker is replaced."""

    number: int
    worker: Worker
    loaded: bool = False
    job: _Job | None = None


class WorkerPool(Pool):
    """In other processes, each with networks of its own.

    At most twice as many tasks as workers are on their way, so that memory is bounded. A worker that
    dies is replaced and its task done again, once; then the task has failed.
    """

    def __init__(self, team: Team[Any], should_stop: Callable[[], bool] = lambda: False) -> None:
        """Args:
        team: of the workers.
        should_stop: asked while the pool waits; True ends the waiting.
        """
        self._team, self._should_stop = team, should_stop
        self._facts: EngineFacts | None = None
        self._waiting: deque[_Job] = deque()
        self._jobs: deque[_Job] = deque()  # in the order of the tasks, until their results are yielded
        self._dead_starts = 0
        self._places = [_Place(number, team.start(number)) for number in range(team.size)]

    @property
    def facts(self) -> EngineFacts:
        """Of the networks of the first worker that has loaded them; those of all others are equal."""
        while self._facts is None:
            self._advance(POLL)
        return self._facts

    def submit(self, task: Task[Any], on_step: OnStep = ignore_step) -> None:
        """Hand a task over to the next free worker; `on_step` is not called."""
        job = _Job(task)
        self._jobs.append(job)
        self._waiting.append(job)

    def ready(self) -> Iterator[Any]:
        """Yield results that are ready; wait while every worker has a task at work and one waiting."""
        yield from self._take(2 * self._team.size)

    def drain(self) -> Iterator[Any]:
        """Wait for all tasks."""
        yield from self._take(0)

    def close(self) -> None:
        """End the workers."""
        for place in self._places:
            place.worker.stop()
        self._team.close()

    def _take(self, most: int) -> Iterator[Any]:
        """Yield results in order until at most so many tasks are left."""
        self._advance(0.0)
        while True:
            while self._jobs and self._jobs[0].done:
                yield self._jobs.popleft().result
            if len(self._jobs) <= most or self._should_stop():
                return
            self._advance(POLL)

    def _advance(self, timeout: float) -> None:
        """Hand out tasks, and read messages; wait up to `timeout` seconds for the first of them."""
        self._hand_out()
        by_worker = {id(place.worker): place for place in self._places}
        for worker in self._team.wait([place.worker for place in self._places], timeout):
            place = by_worker[id(worker)]
            try:
                message = pickle.loads(worker.receive())
            except WorkerDied as error:
                self._replace(place, error)
            else:
                self._accept(place, message)
        self._hand_out()

    def _hand_out(self) -> None:
        for place in self._places:
            if not self._waiting:
                return
            if place.loaded and place.job is None:
                place.job = self._waiting.popleft()
                try:
                    place.worker.send(pickle.dumps(place.job.task))
                except WorkerDied as error:
                    self._replace(place, error)

    def _accept(self, place: _Place, message: Any) -> None:
        if isinstance(message, Raised):
            raise message.error from RuntimeError(f"in worker {place.number}:\n{message.trace}")
        if not place.loaded:
            self._check_facts(place.number, message)
            place.loaded, self._dead_starts = True, 0
        elif place.job is not None:
            place.job.done, place.job.result = True, message
            place.job = None

    def _check_facts(self, number: int, facts: EngineFacts) -> None:
        if facts.version != __version__:
            raise ConfigError(
                f"worker {number} has redepth_ros {facts.version}, this process {__version__}; install the "
                "same version everywhere"
            )
        if self._facts is None:
            self._facts = facts
        elif facts != self._facts:
            raise ConfigError(
                f"worker {number} has {facts}, another worker {self._facts}: their results would differ; "
                "use the same networks everywhere, and name one --precision"
            )

    def _replace(self, place: _Place, died: WorkerDied) -> None:
        """Start another worker in the place of a dead one; its task waits again, or has failed."""
        job, place.job = place.job, None
        place.worker.stop()
        if not place.loaded:
            self._dead_starts += 1
            if self._dead_starts >= MAX_STARTS:
                raise ModelError(
                    f"{MAX_STARTS} workers died while they loaded the networks ({died}); fewer --workers "
                    "leave more memory to each"
                )
        if job is not None:
            job.attempts += 1
            if job.attempts < MAX_ATTEMPTS:
                self._waiting.appendleft(job)
            else:
                reason = f"its worker died {MAX_ATTEMPTS} times ({died}); fewer --workers leave more memory"
                job.done, job.result = True, job.task.failed(reason)
        print(f"redepth: worker {place.number} died ({died}) and is replaced", file=sys.stderr)
        place.loaded = False
        place.worker = self._team.start(place.number)
