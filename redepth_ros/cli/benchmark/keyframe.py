"""The cost of a keyframe, extrapolated from a few steps."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.cli.benchmark.fast_path import noise_image
from redepth_ros.cli.benchmark.findings import Deadline, Findings, KeyframeRow, Missing
from redepth_ros.cli.benchmark.stopwatch import Stopwatch, TimedNetwork, TimedPrior, peak_memory, weights_mib
from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.run import Refiner, Run
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.models.engine import Engine
from redepth_ros.models.random_networks import random_depth_network, random_stable_diffusion
from redepth_ros.nodes.settings import ServerSettings

__all__ = ["measure_keyframe", "measure_keyframes"]

NEEDS_GPU = (
    "Stable Diffusion needs a GPU: on a CPU a step of its true size takes minutes, so the embedded networks "
    "were timed in its place"
)


def measure_keyframes(
    engine: Engine, model_named: bool, prior_named: bool, deadline: Deadline, findings: Findings
) -> None:
    """Time keyframes by both presets, as far as the time allows.

    A CPU works with the threads that `refine_server` has by default.

    Args:
        engine: the networks that the user named, or the embedded ones in their place.
        model_named, prior_named: whether the user did; on a GPU, networks of the true sizes with random
            weights take the place of others.
        deadline: of this part.
        findings: receives the rows.
    """
    device = engine.model.device
    wanted = True
    priors: dict[str, Callable[[], DiffusionPrior]] = {"": lambda: engine.prior}
    if device.type == "cpu":
        wanted = prior_named and not engine.prior.needs_gpu
        if not wanted:
            findings.notes.append(NEEDS_GPU)
            engine = Engine.load("tiny", "tiny", device="cpu")
    elif not prior_named:
        priors = {
            "": partial(random_stable_diffusion, device=str(device)),
            " with TAESD": partial(random_stable_diffusion, tiny_vae=True, device=str(device)),
        }
    model = engine.model
    if wanted and not model_named:
        model = random_depth_network("Small", device=str(device))
    cases = [(preset, vae) for vae in priors for preset in (("default",) if vae else ("default", "paper"))]
    threads = torch.get_num_threads()
    try:
        if device.type == "cpu":
            torch.set_num_threads(ServerSettings.threads)
        for number, (preset, vae) in enumerate(cases):
            name = f"keyframe: {preset}{vae}"
            if deadline.left <= 0:
                findings.not_measured.append(Missing(name, "the time of the keyframes was over"))
                continue
            own = deadline.share(1.0 / (len(cases) - number))
            try:
                pair = Engine(model, priors[vae]())
                settings = pair.preset(preset)
                row = measure_keyframe(pair, preset, settings, noise_image(), wanted=wanted, deadline=own)
                findings.keyframes.append(row)
            except ModelError as error:
                findings.not_measured.append(Missing(name, str(error)))
    finally:
        torch.set_num_threads(threads)


def measure_keyframe(
    engine: Engine,
    preset: str,
    settings: RefineSettings,
    image: NDArray[np.uint8],
    *,
    wanted: bool = True,
    input_size: int = 0,
    steps: int = 5,
    deadline: Deadline | None = None,
) -> KeyframeRow:
    """Time a few steps of the first members, and extrapolate to all steps of all members.

    Args:
        engine: depth network and prior.
        preset: name of the settings.
        settings: of the refinement.
        image: (H, W, 3) uint8 RGB.
        wanted: see `KeyframeRow.wanted`.
        input_size: longer side of the network's input, pixels; 0 takes the network's default.
        steps: to be timed, after one that sets up kernels and memory.
        deadline: after which no further step is started; None does all.

    Raises:
        ModelError: the first step fails.
    """
    batch = min(settings.ensemble_batch_size or settings.ensemble_size, settings.ensemble_size)
    few = dataclasses.replace(settings, steps=steps + 1, ensemble_size=batch, time_budget=0.0)
    watch = Stopwatch(engine.model.device)
    pixels = engine.model.preprocess(image, input_size)
    weights = weights_mib(engine.model.network, engine.prior.unet, engine.prior.vae)
    engine.model.predict(image, input_size)  # sets up kernels
    with peak_memory(engine.model.device) as peak:
        began = watch.now()
        run = Refiner(TimedNetwork(engine.model, watch), TimedPrior(engine.prior, watch), few).start(pixels)
        start_seconds = watch.now() - began
        times = _time_steps(run, watch, deadline)
    message = run.result().message
    if not times:
        raise ModelError(f"no step was done: {message}")
    timed = times[1:] or times
    step = statistics.median(timed)
    all_steps = settings.steps * math.ceil(settings.ensemble_size / batch)
    return KeyframeRow(
        networks=f"{engine.model.name} + {engine.prior.name}",
        preset=preset,
        wanted=wanted,
        members=settings.ensemble_size,
        steps=settings.steps,
        lights=settings.lights_per_step,
        start_seconds=start_seconds,
        step_seconds=step,
        timed_steps=len(timed),
        parts={name: seconds / len(timed) for name, seconds in watch.seconds.items()},
        estimated_seconds=start_seconds + step * all_steps,
        evaluations={name: round(n / len(timed) * all_steps) for name, n in watch.images.items()},
        image_seconds=step / (batch * settings.lights_per_step),
        memory_mib=None if peak.mib is None else weights + peak.mib,
        notes=_notes(message, len(times)),
    )


def _notes(message: str, steps: int) -> list[str]:
    """Return the facts about a measurement that the message of its run and its steps tell."""
    notes = [one for one in message.split("; ") if one.startswith("memory ran out")]
    if steps == 1:
        notes.append("the only step that was timed also sets up kernels and memory")
    return notes


def _time_steps(run: Run, watch: Stopwatch, deadline: Deadline | None) -> list[float]:
    """Do steps until the deadline; return their seconds. The watch then has all but the first of several."""
    times: list[float] = []
    watch.restart()
    mark = watch.now()
    for _ in run.steps():
        watch.lap("optimiser")
        now = watch.now()
        times.append(now - mark)
        if deadline is not None and deadline.left <= 0:
            break
        if len(times) == 1:
            watch.restart()
        mark = watch.now()
    return times
