"""The time in the parts of a refinement, and the memory that it needs."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from redepth_ros.core.refine.networks import DepthNetwork, Embeddings, Prior
from redepth_ros.core.relighting import Lighting

__all__ = ["EVALUATED", "PeakMemory", "Stopwatch", "TimedNetwork", "TimedPrior", "peak_memory", "weights_mib"]

EVALUATED = ("UNet", "autoencoder")
"""Parts whose images are counted."""


class Stopwatch:
    """Adds up the time of each part of a step, and counts images; waits for the device at each look."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._mark = 0.0
        self.seconds: dict[str, float] = {}
        """Of each part, in the order of the first step."""
        self.images = dict.fromkeys(EVALUATED, 0)

    def restart(self) -> None:
        """Forget all times and counts."""
        self.seconds.clear()
        self.images = dict.fromkeys(EVALUATED, 0)
        self._mark = self.now()

    def now(self) -> float:
        """Return the time after all work that the device was given."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last lap to a part."""
        now = self.now()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._mark
        self._mark = now

    def lap_at_gradient(self, part: str, values: Tensor) -> None:
        """Do the lap when a gradient arrives at values; these are made anew in each step, as hooks stay."""
        if values.requires_grad:
            values.register_hook(lambda _: self.lap(part))


class TimedNetwork:
    """A depth network whose decoder is timed; see `DepthNetwork`."""

    def __init__(self, network: DepthNetwork, watch: Stopwatch) -> None:
        self._network, self._watch = network, watch
        self.encode, self.image = network.encode, network.image
        self.decoder_parameters = network.decoder_parameters

    @property
    def metric(self) -> bool:
        return self._network.metric

    def decode(self, embeddings: Embeddings) -> Tensor:
        self._watch.lap("optimiser")
        features = tuple(one.view_as(one) for one in embeddings.features)
        output = self._network.decode(dataclasses.replace(embeddings, features=features))
        self._watch.lap("decoder")
        self._watch.lap_at_gradient("shading", output)
        for one in features:
            self._watch.lap_at_gradient("decoder backward", one)
        return output

    def fork(self) -> TimedNetwork:
        return TimedNetwork(self._network.fork(), self._watch)


class TimedPrior:
    """A prior whose UNet and autoencoder are timed; see `Prior`."""

    def __init__(self, prior: Prior, watch: Stopwatch) -> None:
        self._prior, self._watch = prior, watch
        self.alphas, self.light_conditioned = prior.alphas, prior.light_conditioned
        self.latent_shape, self.condition = prior.latent_shape, prior.condition
        self.prompt_warning = prior.prompt_warning

    def encode(self, images: Tensor, noise: Tensor | None) -> Tensor:
        self._watch.lap("shading")
        self._watch.images["autoencoder"] += len(images)
        images = images.view_as(images)
        latents = self._prior.encode(images, noise)
        self._watch.lap("autoencoder")
        self._watch.lap_at_gradient("UNet", latents)  # the loss belongs to it
        self._watch.lap_at_gradient("autoencoder backward", images)
        return latents

    def predict_noise(
        self, noised: Tensor, t: Tensor, condition: Any, lighting: Lighting, conditional: Tensor | bool
    ) -> Tensor:
        self._watch.images["UNet"] += len(noised)
        predicted = self._prior.predict_noise(noised, t, condition, lighting, conditional)
        self._watch.lap("UNet")
        return predicted


@dataclasses.dataclass
class PeakMemory:
    """Memory that a block took."""

    mib: float | None = None
    """Largest memory during the block beyond that before it; None if the system does not tell."""


@contextmanager
def peak_memory(device: torch.device) -> Iterator[PeakMemory]:
    """Measure the memory that a block takes: allocated on CUDA, resident on a CPU (Linux only)."""
    found = PeakMemory()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = float(torch.cuda.memory_allocated(device))
        yield found
        found.mib = (torch.cuda.max_memory_allocated(device) - before) / 2**20
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        resident = _status_mib("VmRSS")
    except OSError:
        yield found
        return
    yield found
    found.mib = max(0.0, _status_mib("VmHWM") - resident)


def weights_mib(*networks: torch.nn.Module) -> float:
    """Return the memory of the weights of networks."""
    tensors = [one for network in networks for one in (*network.parameters(), *network.buffers())]
    return sum(one.nbytes for one in tensors) / 2**20


def _status_mib(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 2**10
