"""The speed of the fast path, by network, input size and precision."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.cli.benchmark.correctness import reduced_precisions
from redepth_ros.cli.benchmark.findings import Deadline, FastRow, Findings, Missing
from redepth_ros.cli.benchmark.runtimes import OTHER_RUNTIMES
from redepth_ros.cli.benchmark.stopwatch import Stopwatch, peak_memory, weights_mib
from redepth_ros.core.errors import ConfigError, ModelError, OutOfMemory
from redepth_ros.core.memory import memory_errors
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.random_networks import DEPTH_SIZES, random_depth_network

__all__ = ["IMAGE_SIZE", "SMALL", "measure_fast_path", "noise_image"]

IMAGE_SIZE = (480, 640)
"""Height and width of the images that are timed."""
INPUT_SHARES = (1.0, 0.75, 0.5)
"""Shares of a network's own input size that are timed."""
MAX_ROUNDS = 30
NETWORK_SHARE = 0.5
"""Share of the time left that a network takes which is not the last one: the smallest matters most."""
PREPARING_SHARE = 0.6
"""Share of the time of a network in which it may be loaded or compiled once more; rounds take the rest."""
NO_TIME = "its time was over"
SMALL = "depth-anything/Depth-Anything-V2-Small-hf"

Load = Callable[[str], DepthAnything]
"""Returns a network in a precision."""


@dataclass
class Case:
    """A network at an input size, and its times."""

    title: str
    network: DepthAnything
    runtime: str
    input_size: int
    weights_mib: float
    working_mib: float | None = None
    seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Network, input size, runtime and precision in words."""
        return f"{self.title}, {self.input_size} px, {self.runtime} {self.precision}"

    @property
    def precision(self) -> str:
        return str(self.network.dtype).removeprefix("torch.")

    def row(self) -> FastRow:
        """Return the medians."""
        height, width = self.network.network_size(*IMAGE_SIZE, self.input_size)
        seconds = statistics.median(self.seconds)
        memory = None if self.working_mib is None else self.weights_mib + self.working_mib
        return FastRow(
            network=self.title,
            input_size=self.input_size,
            height=height,
            width=width,
            runtime=self.runtime,
            precision=self.precision,
            seconds=seconds,
            hz=1.0 / seconds,
            rounds=len(self.seconds),
            memory_mib=memory,
        )


def noise_image() -> NDArray[np.uint8]:
    """Return an image (H, W, 3) uint8 of `IMAGE_SIZE`: times do not depend on its content."""
    return np.random.default_rng(0).integers(0, 255, (*IMAGE_SIZE, 3), np.uint8)


def measure_fast_path(model: str, device: torch.device, deadline: Deadline, findings: Findings) -> None:
    """Time a network, or those of all sizes, as far as the time allows.

    Args:
        model: name of a depth network; empty takes Depth Anything V2 in all sizes with random weights.
        device: of the networks.
        deadline: of this part.
        findings: receives the rows.
    """
    if model:
        load = partial(_load, load_depth_network, model, device)
        _measure_network(model, load, device, deadline, findings)
        return
    seconds, parameters = 0.0, 1  # that the network before needs at least
    for size, known in DEPTH_SIZES.items():
        title, expected = f"DA-V2 {size}", seconds * known.parameters / parameters
        if deadline.left <= expected:
            reason = f"it needs about {expected:.0f} s, and {max(0.0, deadline.left):.0f} s are left"
            findings.not_measured.append(Missing(f"fast path: {title}", reason))
            continue
        load = partial(_load, random_depth_network, size, device)
        own = deadline if size == list(DEPTH_SIZES)[-1] else deadline.share(NETWORK_SHARE)
        seconds = _measure_network(title, load, device, own, findings)
        parameters = known.parameters


def _load(
    loader: Callable[..., DepthAnything], name: str, device: torch.device, precision: str
) -> DepthAnything:
    return loader(name, device=str(device), precision=precision)


def _measure_network(
    title: str, load: Load, device: torch.device, deadline: Deadline, findings: Findings
) -> float:
    """Time a network in turns at each input size and precision; return the seconds that it needs at least."""
    began, preparing = time.monotonic(), deadline.share(PREPARING_SHARE)
    load_seconds = 0.0
    watch, image = Stopwatch(device), noise_image()
    cases: list[Case] = []
    networks: dict[str, DepthAnything] = {}
    for precision in ("float32", *reduced_precisions(device)):
        if cases and preparing.left <= 0:
            findings.not_measured.append(Missing(f"fast path: {title}, {precision}", NO_TIME))
            continue
        try:
            network = load(precision)
        except ModelError as error:  # the memory does not suffice
            findings.not_measured.append(Missing(f"fast path: {title}, {precision}", str(error)))
            continue
        networks[precision] = network
        load_seconds = load_seconds or time.monotonic() - began
        cases += _prepare(title, network, "torch", device, preparing, findings, image)
    for runtime, (precision, network) in itertools.product(OTHER_RUNTIMES, networks.items()):
        name = f"fast path: {title}, {runtime} {precision}"
        if preparing.left <= 0:
            findings.not_measured.append(Missing(name, NO_TIME))
            continue
        try:
            other = network.with_runtime(runtime)
            cases += _prepare(title, other, runtime, device, preparing, findings, image)
        except (ConfigError, ModelError) as error:  # not installed, or it can't compile the network
            findings.not_measured.append(Missing(name, str(error)))
    try:
        for _ in range(MAX_ROUNDS):
            for case in cases:
                start = watch.now()
                case.network.predict(image, case.input_size)
                case.seconds.append(watch.now() - start)
            if deadline.left <= 0:
                break
    finally:  # also after Ctrl-C
        findings.fast += [case.row() for case in cases if case.seconds]
    fastest = min((min(case.seconds) for case in cases), default=0.0)
    return load_seconds + 2.0 * fastest  # the first pass and a round


def _prepare(
    title: str,
    network: DepthAnything,
    runtime: str,
    device: torch.device,
    deadline: Deadline,
    findings: Findings,
    image: NDArray[np.uint8],
) -> list[Case]:
    """Return the cases of a network that have done one pass, the smallest input first."""
    weights = weights_mib(network.network)
    cases: list[Case] = []
    sizes = {max(1, int(share * network.longer_side) // network.patch) for share in INPUT_SHARES}
    for input_size in sorted(patches * network.patch for patches in sizes):
        case = Case(title, network, runtime, input_size, weights)
        if cases and deadline.left <= 0:
            findings.not_measured.append(Missing(f"fast path: {case.name}", NO_TIME))
            continue
        try:
            with memory_errors(), peak_memory(device) as peak:
                network.predict(image, input_size)  # sets up kernels and memory
        except OutOfMemory as error:
            findings.not_measured.append(Missing(f"fast path: {case.name}", str(error)))
            continue
        if runtime == "torch":  # others compile in the first pass
            case.working_mib = peak.mib
        cases.append(case)
    return cases
