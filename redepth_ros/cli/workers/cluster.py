"""Workers on a Ray cluster; needs ray."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.pool import WorkerDied
from redepth_ros.cli.workers.task import TaskRunner
from redepth_ros.core.errors import ConfigError

__all__ = ["RayTeam", "RayWorker", "Share", "share_cluster"]

CONNECT_TIMEOUT = 10.0
"""Seconds."""

Share = tuple[int, int, float]
"""Number of workers, and CPU cores and GPUs of each."""


class RayWorker:
    """A `TaskRunner` as a Ray actor."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self.actor, self._ray = actor, ray
        self.pending = actor.start.remote()
        """Reference to the next message; None if there is none to wait for."""

    def send(self, task: bytes) -> None:
        """Hand a task over; a dead actor shows in `receive`."""
        self.pending = self.actor.run.remote(task)

    def receive(self) -> bytes:
        """Return the next message."""
        pending, self.pending = self.pending, None
        try:
            return self._ray.get(pending)
        except self._ray.exceptions.RayError as error:
            reason = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
            raise WorkerDied(f"{type(error).__name__}: {reason}") from None

    def stop(self) -> None:
        """End the actor at once."""
        self._ray.kill(self.actor)


class RayTeam:
    """Actors on the nodes of a Ray cluster, each of which has this package and the networks."""

    def __init__(self, options: EngineOptions, size: int, address: str) -> None:
        """Connect to a cluster.

        Args:
            options: of the networks; folders are absolute paths that every node has.
            size: number of workers; 0 takes one for each GPU, or one for each node without GPUs.
            address: of the cluster, as ray.init takes it. Empty takes the cluster in RAY_ADDRESS, or
                that of this machine, or starts one here.

        Raises:
            ConfigError: ray is not installed, no cluster answers, or it is too small.
        """
        try:
            import ray
        except ImportError:
            raise ConfigError("--ray needs Ray: pip install ray, or redepth_ros with its extra ray") from None
        _check_options(options)
        self._ray, self._mine = ray, not ray.is_initialized()
        if self._mine:
            _connect(ray, address or os.environ.get("RAY_ADDRESS", ""))
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self.size, self._threads, self._gpus = share_cluster(nodes, size, options.device)
        self._options = options
        self._device = "cuda" if self._gpus and options.device == "auto" else options.device
        self._runner = ray.remote(TaskRunner).options(
            num_cpus=self._threads, num_gpus=self._gpus, scheduling_strategy="SPREAD"
        )

    def start(self, number: int) -> RayWorker:
        """Start a worker on any node with room for it."""
        return RayWorker(self._ray, self._runner.remote(self._options, self._device, self._threads))

    def wait(self, workers: Sequence[RayWorker], timeout: float) -> Sequence[RayWorker]:
        """Return the workers that have a message or died."""
        by_pending = {worker.pending: worker for worker in workers if worker.pending is not None}
        if not by_pending:
            return []
        found, _ = self._ray.wait(list(by_pending), timeout=timeout)
        return [by_pending[pending] for pending in found]

    def close(self) -> None:
        """Leave the cluster."""
        if self._mine:
            self._ray.shutdown()


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster; raises ConfigError."""
    try:
        host, _, port = address.rpartition(":")
        if host and "://" not in address:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
        ray.init(address=address or None, logging_level=logging.ERROR, log_to_driver=False)
    except (OSError, OverflowError, RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"--ray is {address!r}: no Ray cluster answers there ({reason}); name HOST:PORT as `ray start "
            "--head` prints it, and put --ray without an address behind the inputs"
        ) from None


def _check_options(options: EngineOptions) -> None:
    if options.device.startswith("cuda:"):
        raise ConfigError(f"--device is {options.device!r}; with --ray it must be auto, cpu or cuda")
    for name in ("model", "prior", "vae", "captioner"):
        value = getattr(options, name)
        if value and not Path(value).is_absolute() and Path(value).is_dir():
            raise ConfigError(f"--{name} is {value!r}; with --ray it must be an absolute path on every node")


def share_cluster(nodes: Sequence[dict[str, float]], size: int, device: str) -> Share:
    """Share a cluster among workers such that all of them fit.

    Args:
        nodes: resources of each node, with the keys CPU and GPU.
        size: number of workers; 0 takes one for each GPU, or one for each node without GPUs.
        device: auto, cpu or cuda.

    Raises:
        ConfigError: the cluster is too small.
    """
    gpus = {number: int(node.get("GPU", 0)) for number, node in enumerate(nodes)}
    total = sum(gpus.values())
    if device == "cuda" and not total:
        raise ConfigError("--device is 'cuda', but the Ray cluster has no GPU")
    if total and device != "cpu":
        size = size or total
        per_gpu = -(-size // total)
        cores = [
            int(nodes[number].get("CPU", 0)) // (count * per_gpu) for number, count in gpus.items() if count
        ]
        return size, max(1, min(cores)), 1.0 / per_gpu
    cores = sorted((int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1), reverse=True)
    size = size or len(cores)
    if not cores or size > sum(cores):
        raise ConfigError(f"--workers is {size}; the Ray cluster has {sum(cores)} CPU cores")
    # The largest number of threads with which all workers have room.
    threads = next(n for n in range(cores[0], 0, -1) if sum(count // n for count in cores) >= size)
    return size, threads, 0.0
