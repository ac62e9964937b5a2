"""The scheduling of `WorkerPool`, with workers in this process whose messages arrive in a chosen order."""

import pickle
from dataclasses import replace

import cv2
import pytest
import torch

from cli.workers.tasks import Echo, Faulty
from redepth_ros import __version__
from redepth_ros.cli.workers import processes
from redepth_ros.cli.workers.networks import EngineFacts, EngineOptions
from redepth_ros.cli.workers.pool import MAX_STARTS, SerialPool, WorkerDied, WorkerPool
from redepth_ros.cli.workers.task import Raised, TaskRunner, run_task
from redepth_ros.core.errors import ConfigError, ModelError

FACTS = EngineFacts(__version__, "model", "1", False, 160, "prior", "2", True, "torch.float32", "cpu")


class LocalWorker:
    """Does a task when its message is read, unless it is told to die."""

    def __init__(self, team, number):
        self.team, self.number, self.stopped = team, number, False
        self.message = pickle.dumps(team.facts[number])

    def send(self, task):
        self.message = task
        self.team.at_work.append(pickle.loads(task).value)

    def receive(self):
        message, self.message = pickle.loads(self.message), None
        if isinstance(message, EngineFacts | Raised | type(None)):
            if message is None:
                raise WorkerDied("no memory")
            return pickle.dumps(message)
        if self.team.deaths.get(message.value, 0):
            self.team.deaths[message.value] -= 1
            raise WorkerDied("signal SIGKILL")
        self.team.finished.append(message.value)
        try:
            return pickle.dumps(run_task(None, message))
        except Exception as error:
            return pickle.dumps(Raised.now(error))

    def stop(self):
        self.stopped = True


class LocalTeam:
    """Workers are read from the last to the first, so that results come out of order."""

    def __init__(self, size=2, facts=None, deaths=None):
        self.size, self.deaths = size, dict(deaths or {})
        self.facts = facts or [replace(FACTS, device=f"cuda:{number}") for number in range(size)]
        self.started, self.at_work, self.finished, self.closed = [], [], [], False

    def start(self, number):
        self.started.append(LocalWorker(self, number))
        return self.started[-1]

    def wait(self, workers, timeout):
        return [worker for worker in reversed(workers) if worker.message is not None]

    def close(self):
        self.closed = True


class DeadTeam(LocalTeam):
    """Every worker dies while it loads the networks."""

    def wait(self, workers, timeout):
        return workers


def test_results_come_in_the_order_of_the_tasks_and_failures_among_them():
    team = LocalTeam(3)
    with WorkerPool(team) as pool:
        results = list(pool.map(Echo(value) for value in (0, 1, 2, 3, 4, -5, 6)))
    assert team.finished[:2] == [1, 0]
    assert results == [*(f"done {n}" for n in range(5)), "failed -5: -5 is negative", "done 6"]
    assert team.closed
    assert all(worker.stopped for worker in team.started)


class SlowFirstTeam(LocalTeam):
    """The task 0 is done only when no other worker has a message."""

    def wait(self, workers, timeout):
        ready = super().wait(workers, timeout)
        first = pickle.dumps(Echo(0))
        return [worker for worker in ready if worker.message != first] or ready


def test_at_most_twice_as_many_tasks_as_workers_are_on_their_way():
    taken = []

    def tasks():
        for value in range(20):
            taken.append(value)
            yield Echo(value)

    results = WorkerPool(SlowFirstTeam(2)).map(tasks())
    assert next(results) == "done 0"
    assert len(taken) == 5  # the fifth one waits for the first
    assert len(list(results)) == 19


def test_the_task_of_a_worker_that_died_is_done_again_once(capsys):
    team = LocalTeam(2, deaths={1: 1, 2: 9})
    results = list(WorkerPool(team).map(Echo(value) for value in range(4)))
    assert (results[0], results[1], results[3]) == ("done 0", "done 1", "done 3")
    assert results[2].startswith("failed 2: its worker died 2 times (signal SIGKILL); fewer --workers")
    assert sorted(team.at_work) == [0, 1, 1, 2, 2, 3]
    assert len(team.started) == 2 + 3
    assert capsys.readouterr().err.count("died (signal SIGKILL) and is replaced") == 3
    dead = [worker for worker in team.started if worker.stopped]
    assert len(dead) == 3


def test_workers_that_die_while_they_load_end_the_command():
    team = DeadTeam(2, facts=[None, None])
    with pytest.raises(ModelError, match=r"workers died while they loaded the networks \(no memory\)"):
        list(WorkerPool(team).map([Echo(0)]))
    assert len(team.started) == 2 + MAX_STARTS - 1


def test_an_error_of_the_networks_is_raised():
    error = Raised(ModelError("model 'x' is not a folder"), "trace")
    with pytest.raises(ModelError, match="model 'x' is not a folder"):
        _ = WorkerPool(LocalTeam(1, facts=[error])).facts


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model_hash": "9"}, "their results would differ"),
        ({"dtype": "torch.float16"}, "their results would differ"),
        ({"version": "0.0.1"}, "has redepth_ros 0.0.1, this process"),
    ],
)
def test_workers_with_other_networks_are_refused(other, message):
    with pytest.raises(ConfigError, match=message):
        list(WorkerPool(LocalTeam(2, facts=[FACTS, replace(FACTS, **other)])).map([Echo(0), Echo(1)]))


def test_a_programming_error_is_raised_where_the_command_runs():
    with pytest.raises(IndexError) as raised:
        list(WorkerPool(LocalTeam(1)).map([Faulty(5)]))
    assert "in worker 0" in str(raised.value.__cause__)
    assert "tasks.py" in str(raised.value.__cause__)


def test_a_stop_ends_the_waiting_and_keeps_finished_results():
    stopped = False
    pool = WorkerPool(LocalTeam(1), lambda: stopped)
    pool.submit(Echo(0))
    pool.submit(Echo(1))
    results = pool.drain()
    assert next(results) == "done 0"
    stopped = True
    pool._team.wait = lambda workers, timeout: []  # the worker does not finish any more
    assert list(results) == []


def test_a_serial_pool_shows_steps_and_turns_errors_into_results(engine):
    pool, seen = SerialPool(engine), []

    class Stepping(Echo):
        def run(self, engine, on_step):
            on_step("step")
            return super().run(engine, on_step)

    results = list(pool.map([Stepping(1), Stepping(-1)], seen.append))
    assert (results, seen) == (["done 1", "failed -1: -1 is negative"], ["step", "step"])
    assert (pool.facts.model, pool.facts.prior, pool.facts.light_conditioned) == ("tiny", "tiny", True)


def test_single_deaths_while_loading_are_endured(capsys):
    class FlakyTeam(LocalTeam):
        def start(self, number):
            worker = super().start(number)
            if len(self.started) % 2:
                worker.message = pickle.dumps(None)
            return worker

    deaths = dict.fromkeys(range(6), 1)
    results = list(WorkerPool(FlakyTeam(1, deaths=deaths)).map(Echo(value) for value in range(6)))
    assert results == [f"done {value}" for value in range(6)]


@pytest.mark.parametrize(("before", "most", "after"), [(2, 1, 1), (1, 8, 1)])
def test_a_worker_uses_its_share_of_the_cores(before, most, after, engine):
    class Options:
        def load(self, device):
            return engine

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(before)
        TaskRunner(Options(), "cpu", most).start()
        assert torch.get_num_threads() == after
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(-1)


def test_the_workers_of_a_machine_share_its_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(16))
    started = []
    monkeypatch.setattr(processes, "ProcessWorker", lambda *arguments: started.append(arguments[1:]))
    for size in (3, 32):
        processes.ProcessTeam(EngineOptions("tiny", "tiny", device="cpu"), size).start(0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    team = processes.ProcessTeam(EngineOptions("tiny", "tiny"), 4)
    for number in range(4):
        team.start(number)
    assert started[:2] == [("cpu", 5), ("cpu", 1)]
    assert started[2:] == [("cuda:0", 4), ("cuda:1", 4), ("cuda:0", 4), ("cuda:1", 4)]
