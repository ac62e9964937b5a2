"""Workers in processes of this machine."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.pool import WorkerDied
from redepth_ros.cli.workers.task import TaskRunner

__all__ = ["ProcessTeam", "ProcessWorker"]


class ProcessWorker:
    """A `TaskRunner` in a process of its own."""

    def __init__(self, options: EngineOptions, device: str, threads: int) -> None:
        # Forking a process with threads of torch in it would block.
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, options, device, threads), daemon=True)
        with _ignored_interrupts():
            self.process.start()
        other.close()  # so that its end shows here when the process dies

    def send(self, task: bytes) -> None:
        """Hand a task over."""
        try:
            self.connection.send_bytes(task)
        except OSError:
            raise WorkerDied(self._describe_end()) from None

    def receive(self) -> bytes:
        """Return the next message."""
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            raise WorkerDied(self._describe_end()) from None

    def _describe_end(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        if code is not None and code < 0:
            return f"signal {signal.Signals(-code).name}"
        return f"exit status {code}"

    def stop(self) -> None:
        """End the process at once."""
        self.process.kill()
        self.process.join()
        self.connection.close()


class ProcessTeam:
    """Processes of this machine, which share its CPU cores and its GPUs."""

    def __init__(self, options: EngineOptions, size: int) -> None:
        """Args:
        options: of the networks. With the device `auto` or `cuda`, the workers take the GPUs in turn.
        size: number of workers.
        """
        self.size, self._options = size, options
        self._devices = [options.device]
        if options.device in ("auto", "cuda") and torch.cuda.is_available():
            self._devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        self._threads = max(1, len(os.sched_getaffinity(0)) // size)

    def start(self, number: int) -> ProcessWorker:
        """Start a worker."""
        return ProcessWorker(self._options, self._devices[number % len(self._devices)], self._threads)

    def wait(self, workers: Sequence[ProcessWorker], timeout: float) -> Sequence[ProcessWorker]:
        """Return the workers that have a message or died."""
        by_connection = {id(worker.connection): worker for worker in workers}
        found = multiprocessing.connection.wait([worker.connection for worker in workers], timeout)
        return [by_connection[id(connection)] for connection in found]

    def close(self) -> None:
        """Do nothing."""


@contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Let a process that starts inherit that Ctrl-C is ignored: this process ends its workers itself."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)


def _serve(connection: Connection, options: EngineOptions, device: str, threads: int) -> None:
    """Do tasks until the other end of the connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    runner = TaskRunner(options, device, threads)
    try:
        connection.send_bytes(runner.start())
        while True:
            connection.send_bytes(runner.run(connection.recv_bytes()))
    except (EOFError, OSError):
        return


def _end_with_parent() -> None:
    """End this process, which may be in the middle of a long task, when the command is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
