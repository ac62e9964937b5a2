#!/usr/bin/env python3
"""What refinement gains on held-out rendered reliefs, beside controls.

    ./dev bench refinement_gain [--scenes 64] [--seeds 2] [--json FILE] [--figure FILE] [--tune]

The depth network (bench/relief_depth) learned plain surfaces lit from the upper left; the scenes
are painted with textures drawn anew, lit from above from any side, glossy or not. No label of
them is used. Controls: the same refinement with a randomly initialised prior; smoothness alone;
the best plane (fitted to the truth); and a bound, the fast depth with everything faster than the
trust region repaired. Changes are those of the means over scenes, with paired bootstrap intervals
over scenes; a scene counts as worse when its error grows by more than 2 %.

--tune prints what else was tried, on other scenes: learning rates of the refinement and of each
control, steps, noise levels and members of the refinement. What is best there is what the bench uses.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import Counter
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from redepth_ros.core.camera import normals_from_points, orthographic_points
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.trust_region import TrustRegion
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from training.scenes.relief import draw_relief
from training.scenes.textures import atlas

DEPTH_NETWORK = Path(__file__).parent / "relief_depth"
TEST_SEED, TUNING_SEED = 50_000_000, 40_000_000
TEST_ATLAS, TUNING_ATLAS = 1, 2
"""Seeds of the textures: training uses 0."""

FAST = PRESETS["fast"]
VARIANTS = {
    "refined": FAST,
    # Not judged by that prior: what it does to depth is to be seen.
    "random prior": dataclasses.replace(FAST, min_fall=0.0),
    "smoothness alone": dataclasses.replace(FAST, sds_weight=0.0, smoothness=1.0, members=1),
}
RATES = {"refined": FAST.embedding_rate, "random prior": 0.01, "smoothness alone": 0.01}
"""The learning rate of each, as found by --tune."""
TRIED: list[tuple[str, dict[str, float]]] = [
    *((name, {"embedding_rate": rate}) for name in VARIANTS for rate in (0.01, 0.025, 0.05, 0.1)),
    ("refined", {"steps": 80}),
    ("refined", {"steps": 120, "lights": 4}),
    ("refined", {"steps": 120, "members": 4, "lights": 2}),
    ("refined", {"mirror": False}),
    ("refined", {"t_low": 0.65, "t_fall": 0.0}),
    ("refined", {"min_fall": 0.0}),
]
"""What --tune tries: the variant, and what is different in it."""
MEASURES = {
    "abs_rel": "AbsRel",
    "relief_abs_rel": "relief AbsRel",
    "rmse": "RMSE",
    "delta_1_05": "delta 1.05",
    "delta_1_25": "delta 1.25",
    "normal_angle": "normal angle (deg)",
}
BETTER_WHEN_LARGER = ("delta_1_05", "delta_1_25")


@lru_cache(maxsize=1)
def load_networks(prior: str) -> tuple[DepthAnything, DiffusionPrior, DiffusionPrior]:
    """Depth network, prior, and a randomly initialised copy of the prior."""
    torch.set_num_threads(1)
    network, trained, random = (
        DepthAnything.load(str(DEPTH_NETWORK)),
        DiffusionPrior.load(prior),
        DiffusionPrior.load(prior),
    )
    torch.manual_seed(0)
    random.unet = UNet2DConditionModel.from_config(random.unet.config).eval().requires_grad_(False)
    return network, trained, random


@lru_cache(maxsize=256)
def scene(seed: int, texture_seed: int):
    return draw_relief(seed, atlas(texture_seed))


def without_plane(depth: np.ndarray) -> np.ndarray:
    """A depth map less its least-squares plane."""
    return depth - best_plane(depth)


def best_plane(depth: np.ndarray) -> np.ndarray:
    rows, columns = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(depth.size)], axis=1)
    return (design @ np.linalg.lstsq(design, depth.ravel(), rcond=None)[0]).reshape(depth.shape)


def measure(disparity: Tensor | np.ndarray, depth: Tensor) -> dict[str, float]:
    """Errors of a disparity (h, w) against the true depth (h, w), scale and shift aligned."""
    truth = depth.numpy().astype(np.float64)
    aligned = align_depth(np.asarray(disparity, np.float64).ravel(), truth.ravel()).reshape(truth.shape)
    errors = depth_errors(aligned.ravel(), truth.ravel())
    ratio = np.maximum(aligned / truth, truth / aligned)
    relief = np.abs(without_plane(aligned) - without_plane(truth)) / truth
    normals = normals_from_points(orthographic_points(torch.from_numpy(np.stack([aligned, truth]))))
    cosine = (normals[0] * normals[1]).sum(0).clamp(-1.0, 1.0)
    return {
        "abs_rel": errors["abs_rel"],
        "relief_abs_rel": float(relief.mean()),
        "rmse": errors["rmse"],
        "delta_1_05": float((ratio < 1.05).mean()),
        "delta_1_25": errors["delta1"],
        "normal_angle": float(torch.rad2deg(torch.acos(cosine)).mean()),
    }


def bound(fast: Tensor, truth: Tensor, settings: RefineSettings) -> Tensor:
    """The fast disparity with everything faster than the trust region's average repaired."""
    sigma = (settings.trust_radius or 0.125) * min(truth.shape)
    disparity = settings.scale / truth - settings.shift
    error = (disparity - fast)[None]
    return fast + (error - TrustRegion(error, sigma, 0.0).average(error))[0]


def refine(job: tuple[str, RefineSettings, int, int, str]) -> dict:
    """One scene under one variant: errors, outcome, seconds, and the map itself."""
    variant, settings, seed, texture_seed, prior_name = job
    network, trained, random = load_networks(prior_name)
    rendering = scene(seed, texture_seed)
    image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
    start = time.perf_counter()
    run = Refiner(network, random if variant == "random prior" else trained, settings).start(
        network.preprocess(image)
    )
    for _ in run.steps():
        pass
    result = run.result()
    seconds = time.perf_counter() - start
    return {
        "variant": variant,
        "scene": seed,
        "seconds": seconds,
        "outcome": result.outcome.name,
        "message": result.message,
        "errors": measure(result.refined, rendering.depth),
        "fast": measure(result.fast, rendering.depth),
        "refined_map": result.refined.numpy(),
        "fast_map": result.fast.numpy(),
    }


def baselines(seed: int, fast: np.ndarray) -> dict[str, dict[str, float]]:
    truth = scene(seed, TEST_ATLAS).depth
    return {
        "best plane": measure(1.0 / best_plane(truth.numpy()), truth),
        "bound": measure(bound(torch.from_numpy(fast), truth, FAST), truth),
    }


def change(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Relative change of the mean, and its 95 % interval over scenes (10,000 resamplings)."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(before), (10_000, len(before)))
    ratios = after[chosen].mean(1) / before[chosen].mean(1) - 1.0
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(after.mean() / before.mean() - 1.0), float(low), float(high)


def run_jobs(jobs: list, title: str) -> list[dict]:
    """All jobs on all cores, one thread each."""
    found = []
    with get_context("spawn").Pool() as pool, Progress() as progress:
        task = progress.add_task(title, total=len(jobs))
        for one in pool.imap(refine, jobs):
            found.append(one)
            progress.advance(task)
    return found


def tune(console: Console, scenes: int, prior: str) -> None:
    """Print what each trial reaches on tuning scenes."""
    seeds = range(TUNING_SEED, TUNING_SEED + scenes)
    jobs = [
        (name, dataclasses.replace(VARIANTS[name], **changes), seed, TUNING_ATLAS, prior)
        for name, changes in TRIED
        for seed in seeds
    ]
    found = run_jobs(jobs, "tuning")
    table = Table("", "with", "AbsRel", "normal angle", "worse", title=f"{scenes} tuning scenes")
    for number, (name, changes) in enumerate(TRIED):
        part, cells = found[number * scenes : (number + 1) * scenes], []
        for key in ("abs_rel", "normal_angle"):
            after, before = (np.mean([one[which][key] for one in part]) for which in ("errors", "fast"))
            cells.append(f"{after:.4f} ({after / before - 1.0:+.1%})")
        worse = np.mean([one["errors"]["abs_rel"] > 1.02 * one["fast"]["abs_rel"] for one in part])
        text = ", ".join(f"{key} {value:g}" for key, value in changes.items())
        table.add_row(name, text, *cells, f"{worse:.0%}")
    console.print(table)


def summarise(console: Console, found: list[dict], scenes: int) -> dict:
    """Print and return the errors of everything, before and after."""
    order = sorted({one["scene"] for one in found})
    fast = {one["scene"]: one["fast"] for one in found}
    maps = {one["scene"]: one["fast_map"] for one in found}
    per_scene: dict[str, dict[int, dict[str, float]]] = {"fast": fast}
    for name in VARIANTS:
        per_scene[name] = {}
        for seed in order:
            runs = [one["errors"] for one in found if (one["variant"], one["scene"]) == (name, seed)]
            per_scene[name][seed] = {key: float(np.mean([run[key] for run in runs])) for key in MEASURES}
    others = {seed: baselines(seed, maps[seed]) for seed in order}
    for name in ("best plane", "bound"):
        per_scene[name] = {seed: others[seed][name] for seed in order}

    table = Table("", *MEASURES.values(), "worse", title=f"{scenes} held-out reliefs, means over scenes")
    summary: dict[str, dict] = {}
    for name, errors in per_scene.items():
        cells, summary[name] = [], {}
        for key in MEASURES:
            after = np.array([errors[seed][key] for seed in order])
            before = np.array([fast[seed][key] for seed in order])
            value = change(before, after)
            summary[name][key] = {"mean": float(after.mean()), "change": value[0], "interval": value[1:]}
            text = f"{after.mean():.4f}" if key != "normal_angle" else f"{after.mean():.2f}"
            if name != "fast":
                text += f"\n{value[0]:+.1%} [{value[1]:+.1%}, {value[2]:+.1%}]"
            cells.append(text)
        worse = np.mean([errors[s]["abs_rel"] > 1.02 * fast[s]["abs_rel"] for s in order])
        summary[name]["worse"] = float(worse)
        table.add_row(name, *cells, "" if name == "fast" else f"{worse:.0%}")
    console.print(table)
    outcomes: dict[str, dict[str, int]] = {}
    for name in VARIANTS:
        runs = [one for one in found if one["variant"] == name]
        outcomes[name] = dict(Counter(one["outcome"] for one in runs))
        worse = sum(one["errors"]["abs_rel"] > 1.02 * one["fast"]["abs_rel"] for one in runs)
        console.print(f"{name}: {outcomes[name]}; {worse} of {len(runs)} runs worse by more than 2 %")
    seconds = float(np.median([one["seconds"] for one in found if one["variant"] == "refined"]))
    console.print(f"refined: median {seconds:.1f} s a picture on one core of this machine")
    return {"summary": summary, "outcomes": outcomes, "seconds": seconds}


def draw(found: list[dict], summary: dict, path: Path, count: int = 6) -> None:
    """Write a figure: the first scenes with their normals, and the changes with intervals."""
    chosen = [one for one in found if one["variant"] == "refined"][:count]
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1.0))
    axes = left.subplots(4, count)
    titles = ("picture", "true normals", "fast", "refined")
    for column, one in enumerate(chosen):
        rendering = scene(one["scene"], TEST_ATLAS)
        truth = rendering.depth.numpy().ravel()
        maps = [rendering.depth.numpy().astype(np.float64)] + [
            align_depth(one[f"{name}_map"].astype(np.float64).ravel(), truth).reshape(rendering.depth.shape)
            for name in ("fast", "refined")
        ]
        normals = normals_from_points(orthographic_points(torch.from_numpy(np.stack(maps))))
        drawn = (0.5 + 0.5 * normals * torch.tensor([1.0, -1.0, -1.0])[:, None, None]).movedim(1, -1).numpy()
        for row, picture in enumerate([rendering.image.permute(1, 2, 0).numpy(), *drawn]):
            axes[row, column].imshow(picture.clip(0.0, 1.0))
            axes[row, column].set_xticks([])
            axes[row, column].set_yticks([])
    for row, title in enumerate(titles):
        axes[row, 0].set_ylabel(title)
    axis = right.subplots()
    names = ["refined", "random prior", "smoothness alone", "best plane", "bound"]
    for offset, (key, label) in enumerate((("abs_rel", "AbsRel"), ("normal_angle", "normal angle"))):
        values = [summary[name][key] for name in names]
        heights = np.array([100 * value["change"] for value in values])
        ends = np.array([[100 * end for end in value["interval"]] for value in values])
        axis.barh(
            np.arange(len(names)) + 0.38 * offset, heights, 0.36, label=label,
            xerr=np.abs(ends - heights[:, None]).T,
        )  # fmt: skip
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set_yticks(np.arange(len(names)) + 0.19, names)
    axis.invert_yaxis()
    axis.set_xlabel("change of the error, %")
    axis.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument(
        "--seeds", type=int, default=2, help="runs of each scene, with other lights and noise"
    )
    parser.add_argument("--prior", default="tiny")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--tune", action="store_true")
    options = parser.parse_args()
    console = Console()
    if options.tune:
        tune(console, options.scenes, options.prior)
        return
    jobs = []
    for name, settings in VARIANTS.items():
        for run in range(options.seeds if name == "refined" else 1):
            settings = dataclasses.replace(settings, embedding_rate=RATES[name], seed=run)
            seeds = range(TEST_SEED, TEST_SEED + options.scenes)
            jobs += [(name, settings, seed, TEST_ATLAS, options.prior) for seed in seeds]
    found = run_jobs(jobs, "refining")
    results = summarise(console, found, options.scenes)
    if options.json:
        scenes = [{k: v for k, v in one.items() if not k.endswith("_map")} for one in found]
        options.json.write_text(json.dumps({**results, "runs": scenes}, indent=1))
    if options.figure:
        draw(found, results["summary"], options.figure)


if __name__ == "__main__":
    main()
