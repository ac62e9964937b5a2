#!/usr/bin/env python3
"""Seconds and memory per keyframe: presets `paper` and `default`, and how the cost grows.

    ./dev bench refine_speed [--scenes 3] [--threads N] [--json FILE]
    ./dev bench refine_speed --random-weights [--steps 10] [--device cuda]
    ./dev bench refine_speed --random-weights --steps 2 --ensemble-size 1 --lights-per-step 1    # on a CPU

The first command runs both presets on held-out reliefs with the same networks (bench/relief_depth and
the embedded prior) and prints time and error. It then varies one setting of `default` at a time, and
times the embedded networks on a 640 x 480 image. The other commands build networks of the real sizes
with random weights (Depth Anything V2 Small and Large, Stable Diffusion 1.5): they time a machine
without downloads, count the images that UNet and autoencoder evaluate, and show the parts of a step.
--ensemble-size and --lights-per-step reduce the presets where time or memory is short. Each measurement
runs in a process of its own, so that peak memory (resident on a CPU, allocated on CUDA) belongs to it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.refinement_gain import DEPTH_NETWORK, TEST_ATLAS, TEST_SEED, measure
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine import guidance
from redepth_ros.core.refine.ensemble import Ensemble
from redepth_ros.core.refine.settings import PRESETS, preset_for
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.devices import pick_device, pick_dtype
from redepth_ros.models.diffusion import Condition, DiffusionPrior
from redepth_ros.models.engine import Engine
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas

DEFAULT = PRESETS["default"]
SHORT = dataclasses.replace(DEFAULT, ensemble_size=1, steps=40)
"""Short enough for a CPU."""
EVALUATED = ("UNet", "autoencoder")
"""Parts whose images are counted."""
RANDOM_COLUMNS = (
    "s per step",
    "s per keyframe",
    "UNet evaluations",
    "autoencoder evaluations",
    "peak MiB",
    "s per step of each part",
)
"""Titles of the columns of `time_random`; the seconds of a keyframe are extrapolated from the timed steps."""
TIMES = ("s per keyframe", "ms per step", "peak MiB")
"""Titles of the columns of `times`."""


class RandomPrior(DiffusionPrior):
    """Stable Diffusion 1.5 with random weights and a random prompt."""

    def condition(self, image: torch.Tensor, prompt: str) -> Condition:
        return Condition(None, *torch.randn(2, 1, 77, 768, device=self.device, dtype=self.dtype))


def build_depth_network(size: str, where: torch.device, dtype: torch.dtype) -> DepthAnything:
    """Build a Depth Anything V2 Small or Large with random weights."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    hidden, layers, heads, out, neck, fusion = {
        "Small": (384, 12, 6, [3, 6, 9, 12], [48, 96, 192, 384], 64),
        "Large": (1024, 24, 16, [5, 12, 18, 24], [256, 512, 1024, 1024], 256),
    }[size]
    backbone = Dinov2Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=518,
        patch_size=14,
        out_indices=out,
        apply_layernorm=True,
        reshape_hidden_states=False,
        use_mask_token=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=hidden,
        neck_hidden_sizes=neck,
        fusion_hidden_size=fusion,
        head_in_index=-1,
        head_hidden_size=32,
    )
    network = DepthAnythingForDepthEstimation(config)
    torch.nn.init.constant_(network.head.conv3.bias, 3.0)
    return DepthAnything(network.to(where, dtype), f"random DA-V2 {size}")


def build_random(size: str, device: str) -> Engine:
    """Build networks of the real sizes: Depth Anything V2 Small or Large, and Stable Diffusion 1.5."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    where = pick_device(device)
    dtype = pick_dtype("auto", where)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
    )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    prior = RandomPrior(unet.to(where, dtype), vae.to(where, dtype), scheduler, None, "random SD 1.5")
    return Engine(build_depth_network(size, where, dtype), prior)


class Stopwatch:
    """Adds up the time in the parts of a refinement, without the parts inside, waiting for the device.

    It patches classes, because a refinement works on forks of the network.
    """

    def __init__(self, engine: Engine) -> None:
        self.device, self.seconds, self.images = engine.model.device, {}, {}
        self._inner: list[float] = []  # seconds of the parts inside those that are running
        model, prior = type(engine.model), type(engine.prior)
        self._patch(model, "encode", "depth encoder")
        self._patch(model, "decode", "decoder")
        self._patch(Ensemble, "descend", "decoder backward")
        self._patch(guidance, "relight", "shading")
        self._patch(prior, "encode", "autoencoder")
        self._patch(prior, "predict_noise", "UNet")
        self._patch(guidance.SdsGuidance, "gradient", "autoencoder backward")  # what is left of it

    def clear(self) -> None:
        """Start anew."""
        self.seconds.clear()
        self.images.clear()

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _patch(self, owner: Any, name: str, part: str) -> None:
        method = getattr(owner, name)

        def call(*arguments):
            start = self.now()
            self._inner.append(0.0)
            result = method(*arguments)
            elapsed, inner = self.now() - start, self._inner.pop()
            if self._inner:
                self._inner[-1] += elapsed
            self.seconds[part] = self.seconds.get(part, 0.0) + elapsed - inner
            if part in EVALUATED:
                self.images[part] = self.images.get(part, 0) + len(arguments[1])
            return result

        setattr(owner, name, call)


def run(job: dict) -> dict:
    """Refine images one after the other; return the means of the measurements."""
    torch.set_num_threads(job["threads"])
    random = job["networks"] in ("Small", "Large")
    if random:
        engine = build_random(job["networks"], job["device"])
    else:
        engine = Engine.load(
            job["networks"], "tiny", device=job["device"], precision=job.get("precision", "auto")
        )
    if engine.model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watch = Stopwatch(engine) if random else None
    rows, settings = [], job["settings"]
    for number in range(-1 if random else 0, job["scenes"]):  # the first one warms up
        rng = np.random.default_rng(0)
        truth = None
        if random or job["networks"] == "tiny":
            image = rng.integers(0, 255, (480, 640, 3), np.uint8)
        else:
            rendering = sample_relief(TEST_SEED + max(number, 0), atlas(TEST_ATLAS), side=job["side"])
            image = to_uint8(rendering.image.permute(1, 2, 0).numpy())
            truth = rendering.depth
        start = watch.now() if watch else time.perf_counter()
        work = engine.start(image, settings, input_size=job["input_size"])
        began = watch.now() if watch else time.perf_counter()
        once = watch.seconds["depth encoder"] if watch else 0.0
        if watch:
            watch.clear()  # of a step alone
        for _ in work.steps():
            pass
        result = work.result()
        end = watch.now() if watch else time.perf_counter()
        row = {"seconds": end - start, "step": (end - began) / max(1, len(result.history))}
        if truth is not None:
            row["before"], row["after"] = measure(result.fast, truth), measure(result.refined, truth)
        if watch:
            row["parts"] = {name: value / len(result.history) for name, value in watch.seconds.items()}
            row["parts"]["rest"] = row["step"] - sum(row["parts"].values())
            row["parts"]["depth encoder, once"] = once
            row["images"] = {name: count / len(result.history) for name, count in watch.images.items()}
        if number >= 0:
            rows.append(row)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    if engine.model.device.type == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**20
    found = {"memory_mib": memory, "device": str(engine.model.device)}
    found |= {key: float(np.mean([row[key] for row in rows])) for key in ("seconds", "step")}
    for key in ("abs_rel", "normal_angle"):
        if "before" in rows[0]:
            before, after = (float(np.mean([row[when][key] for row in rows])) for when in ("before", "after"))
            found[key], found[f"{key}_change"] = after, after / before - 1.0
    for key in ("parts", "images") if watch else ():
        found[key] = {name: float(np.mean([row[key][name] for row in rows])) for name in rows[0][key]}
    return found


def in_own_process(**job) -> dict:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (job,))


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
        results[name] = found = in_own_process(**relief, settings=settings, scenes=scenes)
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
        results[name] = in_own_process(**job)
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
            found = in_own_process(**job, precision=precision)
            results[f"embedded networks, {name}, {precision}"] = found
            table.add_row(f"{name}, {precision}", *times(found))
    console.print(table)
    return results


def time_random(console: Console, options: argparse.Namespace) -> dict:
    """Time a few steps with random weights, and extrapolate to a keyframe."""
    results = {}
    table = Table("random weights, 518 px", *RANDOM_COLUMNS)
    for size in ("Small", "Large"):
        for name in ("default", "paper"):
            preset = preset_for(name, light_conditioned=False)
            preset = dataclasses.replace(
                preset,
                ensemble_size=options.ensemble_size or preset.ensemble_size,
                lights_per_step=options.lights_per_step or preset.lights_per_step,
            )
            few = dataclasses.replace(
                preset, steps=options.steps, ensemble_size=preset.ensemble_batch_size or preset.ensemble_size
            )
            job = {"networks": size, "device": options.device, "threads": options.threads, "input_size": 518}
            found = in_own_process(**job, settings=few, scenes=1, side=0)
            groups = preset.ensemble_size / few.ensemble_size
            found["keyframe"] = found["step"] * preset.steps * groups
            steps = preset.steps * groups
            found["evaluations"] = {name: round(count * steps) for name, count in found["images"].items()}
            parts = "\n".join(f"{name} {seconds:.3f}" for name, seconds in found["parts"].items())
            batch = f"{preset.ensemble_size} members, {preset.lights_per_step} lights"
            table.add_row(
                f"DA-V2 {size} and SD 1.5, {name}, {batch}, {found['device']}",
                f"{found['step']:.3f}",
                f"{found['keyframe']:.1f}",
                *(str(found["evaluations"][name]) for name in EVALUATED),
                f"{found['memory_mib']:.0f}",
                parts,
            )
            results[f"{size} {name}"] = found
    console.print(table)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--steps", type=int, default=10, help="timed, with --random-weights")
    parser.add_argument("--ensemble-size", type=int, help="with --random-weights, instead of the presets'")
    parser.add_argument("--lights-per-step", type=int, help="with --random-weights, instead of the presets'")
    options = parser.parse_args()
    console = Console()
    results = (time_random if options.random_weights else compare)(console, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
