#!/usr/bin/env python3
"""Seconds and memory a keyframe: `paper` against `fast`, and how the cost grows.

    ./dev bench refine_speed [--scenes 3] [--threads N] [--json FILE]
    ./dev bench refine_speed --random-weights [--steps 10] [--device cuda]
    ./dev bench refine_speed --random-weights --steps 2 --members 1 --lights 1    # what a CPU can do

The first runs both presets on the same held-out reliefs with the same networks (bench/relief_depth
and the embedded prior), with the error that each reaches, then varies one setting of `fast` at a
time, and times the embedded pair (`tiny` and `tiny`) on a 640 x 480 picture. The others build
networks of the true sizes with random weights (Depth Anything V2 Small and Large, Stable Diffusion
1.5), to time a machine without any download, and say where the time of a step goes; --members and
--lights make the presets smaller where time or memory is short. Each measurement has a process of its
own, so that its peak memory is its own: resident memory on a CPU, allocated memory on CUDA.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent))
from refinement_gain import DEPTH_NETWORK, TEST_ATLAS, TEST_SEED, measure

from redepth_ros.core.refine.settings import PRESETS, RefineSettings, preset_for
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.devices import pick_device, pick_dtype
from redepth_ros.models.diffusion import Condition, DiffusionPrior
from redepth_ros.models.engine import Engine
from training.scenes.relief import draw_relief
from training.scenes.textures import atlas

FAST = PRESETS["fast"]
SHORT = dataclasses.replace(FAST, members=1, steps=40)
"""Short enough for a CPU."""


class RandomPrior(DiffusionPrior):
    """Stable Diffusion 1.5 with random weights; its prompt is random, too."""

    def condition(self, picture: torch.Tensor, prompt: str) -> Condition:
        return Condition(None, *torch.randn(2, 1, 77, 768, device=self.device, dtype=self.dtype))


def build_random(size: str, device: str) -> Engine:
    """Networks of the true sizes: Depth Anything V2 Small or Large, and Stable Diffusion 1.5."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    where = pick_device(device)
    dtype = pick_dtype("auto", where)
    hidden, layers, heads, out, neck, fusion = {
        "Small": (384, 12, 6, [3, 6, 9, 12], [48, 96, 192, 384], 64),
        "Large": (1024, 24, 16, [5, 12, 18, 24], [256, 512, 1024, 1024], 256),
    }[size]
    backbone = Dinov2Config(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, image_size=518,
        patch_size=14, out_indices=out, apply_layernorm=True, reshape_hidden_states=False,
        use_mask_token=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=hidden, neck_hidden_sizes=neck,
        fusion_hidden_size=fusion, head_in_index=-1, head_hidden_size=32,
    )  # fmt: skip
    network = DepthAnythingForDepthEstimation(config)
    torch.nn.init.constant_(network.head.conv3.bias, 3.0)
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    coder = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        scaling_factor=0.18215,
    )  # fmt: skip
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    prior = RandomPrior(unet.to(where, dtype), coder.to(where, dtype), scheduler, None, "random SD 1.5")
    return Engine(DepthAnything(network.to(where, dtype), f"random DA-V2 {size}"), prior)


class Stopwatch:
    """Adds up the time in some methods of an engine's classes, the device being waited for.

    Of the classes, since a refinement works on forks of the model.
    """

    def __init__(self, engine: Engine) -> None:
        self.device, self.seconds = engine.model.device, {}
        for owner, name in (
            (type(engine.model), "decode"), (type(engine.prior), "encode"),
            (type(engine.prior), "predict_noise"),
        ):  # fmt: skip
            setattr(owner, name, self._timed(name, getattr(owner, name)))

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def _timed(self, name, method):
        def call(*arguments):
            start = self.now()
            result = method(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start
            return result

        return call


def run(job: dict) -> dict:
    """Refine some pictures one after the other; means of what was measured."""
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
    for number in range(-1 if random else 0, job["scenes"]):  # a first one of random weights to warm up
        rng = np.random.default_rng(0)
        truth = None
        if random or job["networks"] == "tiny":
            image = rng.integers(0, 255, (480, 640, 3), np.uint8)
        else:
            rendering = draw_relief(TEST_SEED + max(number, 0), atlas(TEST_ATLAS), side=job["side"])
            image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
            truth = rendering.depth
        if watch:
            watch.seconds.clear()
        start = watch.now() if watch else time.perf_counter()
        work = engine.start(image, settings, longer_side=job["longer_side"])
        began = watch.now() if watch else time.perf_counter()
        for _ in work.steps():
            pass
        result = work.result()
        end = watch.now() if watch else time.perf_counter()
        row = {"seconds": end - start, "step": (end - began) / max(1, len(result.history))}
        if truth is not None:
            row["before"], row["after"] = measure(result.fast, truth), measure(result.refined, truth)
        if watch:
            row["shares"] = {name: value / (end - began) for name, value in watch.seconds.items()}
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
    if watch:
        names = rows[0]["shares"]
        found["shares"] = {name: float(np.mean([row["shares"][name] for row in rows])) for name in names}
    return found


def in_own_process(**job) -> dict:
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(run, (job,))


def compare(console: Console, options: argparse.Namespace) -> dict:
    """paper and fast, then variations of fast, then the embedded pair."""
    common = {"device": options.device, "threads": options.threads, "longer_side": 0}
    relief = {**common, "networks": str(DEPTH_NETWORK), "side": 56}
    results: dict[str, dict] = {}
    table = Table("", "s a keyframe", "ms a step", "peak MiB", "AbsRel", "normal angle",
                  title=f"{options.scenes} held-out reliefs of 56 x 56")  # fmt: skip
    for name in ("fast", "paper"):
        settings = PRESETS[name]
        console.print(f"{name}: {settings.members} x {settings.steps} steps a keyframe ...")
        results[name] = found = in_own_process(**relief, settings=settings, scenes=options.scenes)
        table.add_row(
            name, f"{found['seconds']:.2f}", f"{found['step'] * 1e3:.1f}", f"{found['memory_mib']:.0f}",
            f"{found['abs_rel']:.4f} ({found['abs_rel_change']:+.1%})",
            f"{found['normal_angle']:.1f} ({found['normal_angle_change']:+.1%})",
        )  # fmt: skip
    console.print(table)
    ratio = results["paper"]["seconds"] / results["fast"]["seconds"]
    console.print(f"paper / fast: {ratio:.1f} times the seconds")
    results["ratio"] = {"seconds": ratio}

    variations: list[tuple[str, RefineSettings, int]] = [("as it is", FAST, 56)]
    variations += [
        (f"steps {n}", dataclasses.replace(FAST, steps=n), 56) for n in (FAST.steps // 2, 2 * FAST.steps)
    ]
    variations += [(f"members {n}", dataclasses.replace(FAST, members=n), 56) for n in (1, 2, 4, 8)]
    variations += [(f"lights {n}", dataclasses.replace(FAST, lights=n), 56) for n in (1, 2, 4, 8)]
    variations += [(f"{side} x {side} pixels", FAST, side) for side in (112, 224)]
    table = Table("fast", "s a keyframe", "ms a step", "peak MiB", title="how the cost grows")
    for name, settings, side in variations:
        job = {**relief, "side": side, "longer_side": side, "settings": settings, "scenes": 1}
        results[name] = found = in_own_process(**job)
        table.add_row(
            name, f"{found['seconds']:.2f}", f"{found['step'] * 1e3:.1f}", f"{found['memory_mib']:.0f}"
        )
    console.print(table)
    title = f"a picture of 640 x 480, of which the networks see 160 x 120, {options.threads} threads"
    table = Table("embedded pair", "s a keyframe", "ms a step", "peak MiB", title=title)
    for precision in ("float32", "bfloat16"):
        for name, settings in (("fast", FAST), ("one member, 40 steps", SHORT)):
            job = {**common, "networks": "tiny", "side": 0, "settings": settings, "scenes": 1}
            found = in_own_process(**job, precision=precision)
            results[f"embedded pair, {name}, {precision}"] = found
            table.add_row(
                f"{name}, {precision}", f"{found['seconds']:.2f}", f"{found['step'] * 1e3:.1f}",
                f"{found['memory_mib']:.0f}",
            )  # fmt: skip
    console.print(table)
    return results


def time_random(console: Console, options: argparse.Namespace) -> dict:
    """Networks of the true sizes with random weights, a few steps, and the keyframe they add up to."""
    results = {}
    table = Table("random weights, 518 px", "s a step", "s a keyframe", "peak MiB", "of a step")
    for size in ("Small", "Large"):
        for name in ("fast", "paper"):
            preset = preset_for(name, knows_light=False)
            preset = dataclasses.replace(
                preset, members=options.members or preset.members, lights=options.lights or preset.lights
            )
            few = dataclasses.replace(
                preset, steps=options.steps, members=preset.members_at_once or preset.members
            )
            job = {"networks": size, "device": options.device, "threads": options.threads, "longer_side": 518}
            found = in_own_process(**job, settings=few, scenes=1, side=0)
            groups = preset.members / few.members
            found["keyframe"] = found["step"] * preset.steps * groups
            rest = 1.0 - sum(found["shares"].values())
            parts = ", ".join(f"{key} {share:.0%}" for key, share in found["shares"].items())
            batch = f"{preset.members} members, {preset.lights} lights"
            table.add_row(
                f"DA-V2 {size} and SD 1.5, {name}, {batch}, {found['device']}", f"{found['step']:.3f}",
                f"{found['keyframe']:.1f}", f"{found['memory_mib']:.0f}", f"{parts}, gradients {rest:.0%}",
            )  # fmt: skip
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
    parser.add_argument("--members", type=int, help="with --random-weights, instead of the presets'")
    parser.add_argument("--lights", type=int, help="with --random-weights, instead of the presets'")
    options = parser.parse_args()
    console = Console()
    results = (time_random if options.random_weights else compare)(console, options)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
