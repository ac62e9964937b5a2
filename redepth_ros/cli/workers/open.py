"""The pool that the options --workers and --ray choose."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from redepth_ros.cli.workers.cluster import RayTeam
from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.pool import Pool, SerialPool, WorkerPool
from redepth_ros.cli.workers.processes import ProcessTeam

__all__ = ["open_pool"]


def open_pool(options: argparse.Namespace, should_stop: Callable[[], bool] = lambda: False) -> Pool:
    """Return the pool of a command, whose workers load the networks meanwhile.

    Args:
        options: of `add_network_options` and `add_worker_options`, and the captioner.
        should_stop: see `WorkerPool`.

    Raises:
        RedepthError: the networks can't be loaded in this process, or there is no Ray cluster.
    """
    networks = EngineOptions.of(options)
    if options.ray is not None:
        return WorkerPool(RayTeam(networks, options.workers or 0, options.ray), should_stop)
    if options.workers and options.workers > 1:
        return WorkerPool(ProcessTeam(networks, options.workers), should_stop)
    return SerialPool(networks.load())
