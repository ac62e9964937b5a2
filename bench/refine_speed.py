#!/usr/bin/env python3
"""Seconds and memory per keyframe: presets `paper` and `default`, and how the cost grows.

    ./dev bench refine_speed [--scenes 3] [--threads N] [--json FILE]
    ./dev bench refine_speed --random-weights [--steps 10] [--device cuda] [--tflops N]
    ./dev bench refine_speed --random-weights --sizes Small --steps 2 --ensemble-size 1 --lights-per-step 1

The first command runs both presets on held-out reliefs with the same networks (bench/relief_depth and
the embedded prior) and prints time and error. It then varies one setting of `default` at a time, and
times the embedded networks on a 640 x 480 image. The other commands (the last one is for a CPU) build
networks of the real sizes with random weights: Depth Anything V2 Small and Large; Stable Diffusion 1.5 with
its own autoencoder and with that of TAESD. They time a machine without downloads, count the images that
UNet and autoencoder evaluate and their floating-point operations, and show the parts of a step.

--tflops N adds the seconds on a GPU with this peak. They are an estimate: nothing runs there, and the share
of the peak that is reached (--efficiency) is an assumption. --prior-runtime compiles the prior.
--ensemble-size and --lights-per-step reduce the presets where time or memory is short. Each measurement
runs in a process of its own, so that peak memory (resident on a CPU, allocated on CUDA) belongs to it. With
random weights it is that of the weights and of the work, without the process itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.domains import DEPTH_NETWORK, TEST_ATLAS, TEST_SEED, measure
from redepth_ros.cli.benchmark.fast_path import noise_image
from redepth_ros.cli.benchmark.keyframe import measure_keyframe
from redepth_ros.cli.benchmark.stopwatch import EVALUATED
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine.settings import PRESETS, preset_for
from redepth_ros.models.engine import Engine
from redepth_ros.models.prior_runtime import PRIOR_RUNTIMES, compile_networks
from redepth_ros.models.random_networks import random_depth_network, random_stable_diffusion
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas

DEFAULT = PRESETS["default"]
SHORT = dataclasses.replace(DEFAULT, ensemble_size=1, steps=40)
"""Short enough for a CPU."""
RANDOM_COLUMNS = (
    "s per step",
    "s per keyframe",
    "UNet evaluations",
    "autoencoder evaluations",
    "peak MiB",
    "s per step of each part",
    "TFLOP per keyframe",
    "TFLOP/s",
)
"""Titles of the columns of `time_random`; the seconds of a keyframe are extrapolated from the timed steps."""
RANDOM_CASES = (("default", False), ("default", True), ("paper", False))
"""Presets, and whether the prior has the autoencoder of TAESD."""
TIMES = ("s per keyframe", "ms per step", "peak MiB")
"""Titles of the columns of `times`."""


def run(job: dict) -> dict:
    """Refine images one after the other; return the means of the measurements."""
    torch.set_num_threads(job["threads"])
    engine = Engine.load(
        job["networks"], "tiny", device=job["device"], precision=job.get("precision", "auto")
    )
    cuda = engine.model.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    rows, settings = [], job["settings"]
    for number in range(job["scenes"]):
        image, truth = noise_image(), None
        if job["networks"] != "tiny":
            rendering = sample_relief(TEST_SEED + number, atlas(TEST_ATLAS), side=job["side"])
            image = to_uint8(rendering.image.permute(1, 2, 0).numpy())
            truth = rendering.depth
        start = time.perf_counter()
        work = engine.start(image, settings, input_size=job["input_size"])
        began = time.perf_counter()
        for _ in work.steps():
            pass
        result = work.result()
        end = time.perf_counter()
        row = {"seconds": end - start, "step": (end - began) / max(1, len(result.history))}
        if truth is not None:
            row["before"], row["after"] = (
                measure(result.fast, truth, None),
                measure(result.refined, truth, None),
            )
        rows.append(row)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if cuda:
        memory = torch.cuda.max_memory_allocated() / 2**20
    found = {"memory_mib": memory, "device": str(engine.model.device)}
    found |= {key: float(np.mean([row[key] for row in rows])) for key in ("seconds", "step")}
    for key in ("abs_rel", "normal_angle"):
        if "before" in rows[0]:
            before, after = (float(np.mean([row[when][key] for row in rows])) for when in ("before", "after"))
            found[key], found[f"{key}_change"] = after, after / before - 1.0
    return found


def run_random(job: dict) -> dict:
    """Time a few steps of networks of the real sizes."""
    torch.set_num_threads(job["threads"])
    device = job["device"]
    prior = random_stable_diffusion(tiny_vae=job["tiny_vae"], device=device)
    engine = Engine(random_depth_network(job["size"], device=device), prior)
    flops = count_flops(engine)
    compile_networks(job["prior_runtime"], prior.device, prior.unet, prior.vae.encoder)
    settings = job["settings"]
    row = measure_keyframe(engine, job["preset"], settings, noise_image(), steps=job["steps"])
    decoded = settings.steps * settings.ensemble_size
    keyframe = flops["encoder"] + decoded * flops["decoder"]
    keyframe += sum(row.evaluations[part] * flops[part] for part in EVALUATED)
    return {
        "device": str(engine.model.device),
        "flops": flops,
        "keyframe_flops": keyframe,
        **dataclasses.asdict(row),
    }


def count_flops(engine: Engine) -> dict[str, float]:
    """Return the operations of networks by the shapes of their tensors; nothing is computed.

    Returns:
        Those of one image through encoder (of the depth network) and UNet, and forward and backward through
        decoder and autoencoder. Multiplications and additions count as two operations.
    """
    prior, pixels = engine.prior, engine.model.preprocess(noise_image())
    condition = prior.condition(engine.model.image(pixels).float(), "")
    counted = {}
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):

        def count(part: str, work: Callable[[], object]) -> None:
            with FlopCounterMode(display=False) as counter:
                work()
            counted[part] = float(counter.get_total_flops())

        device = prior.device
        images = torch.rand(1, 3, *pixels.shape[-2:], device=device, requires_grad=True)
        noised = torch.rand(1, *prior.latent_shape(*pixels.shape[-2:]), device=device)
        t = torch.zeros(1, dtype=torch.long, device=device)
        with torch.no_grad():
            count("encoder", lambda: engine.model.encode(pixels))
            count("UNet", lambda: prior.predict_noise(noised, t, condition, None, True))
            embeddings = engine.model.encode(pixels)
        features = tuple(one.float().requires_grad_() for one in embeddings.features)
        embeddings = dataclasses.replace(embeddings, features=features)
        count("decoder", lambda: engine.model.decode(embeddings).sum().backward())
        count("autoencoder", lambda: prior.encode(images, None).sum().backward())
    return counted


def in_own_process(work: Callable[[dict], dict], **job) -> dict:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (job,))


def compare(console: Console, options: argparse.Namespace) -> dict:
    """Compare the presets, vary `default`, and time the embedded networks."""
    common = {"device": options.device, "threads": options.threads, "input_size": 0}
    relief = {**common, "networks": str(DEPTH_NETWORK), "side": 56}
    results = compare_presets(console, relief, options.scenes)
    results |= vary_default(console, relief)
    return results | time_embedded(console, common)


def times(found: dict) -> tuple[str, str, str]:
    """Return seconds per keyframe, milliseconds per step and peak MiB as table cells."""
    return f"{found['seconds']:.2f}", f"{found['step'] * 1e3:.1f}", f"{found['memory_mib']:.0f}"


def compare_presets(console: Console, relief: dict, scenes: int) -> dict:
    """Print and return times and errors of both presets."""
    results: dict[str, dict] = {}
    table = Table("", *TIMES, "AbsRel", "normal angle", title=f"{scenes} held-out reliefs of 56 x 56")
    for name in ("default", "paper"):
        settings = PRESETS[name]
        console.print(f"{name}: {settings.ensemble_size} x {settings.steps} steps per keyframe ...")
        results[name] = found = in_own_process(run, **relief, settings=settings, scenes=scenes)
        table.add_row(
            name,
            *times(found),
            f"{found['abs_rel']:.4f} ({found['abs_rel_change']:+.1%})",
            f"{found['normal_angle']:.1f} ({found['normal_angle_change']:+.1%})",
        )
    console.print(table)
    ratio = results["paper"]["seconds"] / results["default"]["seconds"]
    console.print(f"paper / default: {ratio:.1f} times the seconds")
    return {**results, "ratio": {"seconds": ratio}}


def vary_default(console: Console, relief: dict) -> dict:
    """Print and return times of the preset `default` with one change at a time."""
    changes: list[tuple[str, int]] = [("steps", n) for n in (DEFAULT.steps // 2, 2 * DEFAULT.steps)]
    changes += [(name, n) for name in ("ensemble_size", "lights_per_step") for n in (1, 2, 4, 8)]
    variations = [("unchanged", DEFAULT, 56)]
    variations += [(f"{name} {n}", dataclasses.replace(DEFAULT, **{name: n}), 56) for name, n in changes]
    variations += [(f"{side} x {side} pixels", DEFAULT, side) for side in (112, 224)]
    results = {}
    table = Table("default", *TIMES, title="how the cost grows")
    for name, settings, side in variations:
        job = {**relief, "side": side, "input_size": side, "settings": settings, "scenes": 1}
        results[name] = in_own_process(run, **job)
        table.add_row(name, *times(results[name]))
    console.print(table)
    return results


def time_embedded(console: Console, common: dict) -> dict:
    """Print and return times of the embedded networks."""
    results = {}
    title = f"an image of 640 x 480, network input of 160 x 120, {common['threads']} threads"
    table = Table("embedded networks", *TIMES, title=title)
    for precision in ("float32", "bfloat16"):
        for name, settings in (("default", DEFAULT), ("one member, 40 steps", SHORT)):
            job = {**common, "networks": "tiny", "side": 0, "settings": settings, "scenes": 1}
            found = in_own_process(run, **job, precision=precision)
            results[f"embedded networks, {name}, {precision}"] = found
            table.add_row(f"{name}, {precision}", *times(found))
    console.print(table)
    return results


def time_random(console: Console, options: argparse.Namespace) -> dict:
    """Time a few steps with random weights, and extrapolate to a keyframe."""
    results = {}
    estimate = [f"estimated s at {options.tflops:g} TFLOP/s"] if options.tflops else []
    table = Table("random weights, 518 px", *RANDOM_COLUMNS, *estimate)
    for size in options.sizes:
        for name, tiny_vae in RANDOM_CASES:
            preset = preset_for(name, light_conditioned=False)
            preset = dataclasses.replace(
                preset,
                ensemble_size=options.ensemble_size or preset.ensemble_size,
                lights_per_step=options.lights_per_step or preset.lights_per_step,
            )
            found = in_own_process(
                run_random,
                size=size,
                preset=name,
                tiny_vae=tiny_vae,
                settings=preset,
                steps=options.steps,
                device=options.device,
                threads=options.threads,
                prior_runtime=options.prior_runtime,
            )
            title = f"DA-V2 {size}, SD 1.5{' with TAESD' if tiny_vae else ''}, {name}"
            batch = f"{preset.ensemble_size} members, {preset.lights_per_step} lights"
            if options.tflops:
                peak = options.tflops * 1e12
                found["estimated_gpu_seconds"] = found["keyframe_flops"] / (options.efficiency * peak)
                estimate = [f"about {found['estimated_gpu_seconds']:.0f}"]
            table.add_row(f"{title}, {batch}, {found['device']}", *random_cells(found), *estimate)
            results[title] = found
    console.print(table)
    if options.tflops:
        console.print(
            f"The last column is an estimate, not a measurement: it assumes {options.efficiency:.0%} of "
            f"{options.tflops:g} TFLOP/s. Only the networks are counted."
        )
    return results


def random_cells(found: dict) -> tuple[str, ...]:
    """Return the cells of `RANDOM_COLUMNS`."""
    memory, flops = found["memory_mib"], found["keyframe_flops"]
    return (
        f"{found['step_seconds']:.3f}",
        f"{found['estimated_seconds']:.1f}",
        *(str(found["evaluations"][part]) for part in EVALUATED),
        "-" if memory is None else f"{memory:.0f}",
        "\n".join(f"{part} {seconds:.3f}" for part, seconds in found["parts"].items()),
        f"{flops / 1e12:.0f}",
        f"{flops / found['estimated_seconds'] / 1e12:.3g}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--sizes", nargs="+", choices=("Small", "Large"), default=["Small", "Large"])
    parser.add_argument("--prior-runtime", choices=PRIOR_RUNTIMES, default="torch")
    parser.add_argument("--tflops", type=float, help="peak of the GPU for which seconds are estimated")
    parser.add_argument("--efficiency", type=float, default=0.4, help="assumed share of that peak")
    parser.add_argument("--steps", type=int, default=10, help="timed, with --random-weights")
    parser.add_argument("--ensemble-size", type=int, help="with --random-weights, instead of the presets'")
    parser.add_argument("--lights-per-step", type=int, help="with --random-weights, instead of the presets'")
    options = parser.parse_args()
    if options.tflops is not None and not (options.tflops > 0.0 and 0.0 < options.efficiency <= 1.0):
        parser.error("--tflops must be above 0, and --efficiency above 0 and at most 1")
    console = Console()
    results = (time_random if options.random_weights else compare)(console, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
