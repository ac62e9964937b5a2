#!/usr/bin/env python3
"""Gain of the refinement on held-out rendered reliefs, compared with controls.

    ./dev bench refinement_gain [--scenes 64] [--seeds 2] [--json FILE] [--figure FILE]

The depth network (bench/relief_depth) was trained on plain surfaces lit from the upper left. The
scenes have other textures, light from above from any side, and some gloss. None of their labels is
used. Controls: the same refinement with a randomly initialised prior; smoothness alone; the best plane
(fitted to the truth); and a bound, the fast depth with all errors corrected that the trust region does
not limit. Changes are those of the means over scenes, with paired bootstrap intervals over scenes. A
scene counts as worse if its error grows by more than 2 %. Settings of the refinement and of each control
are those that bench/refinement_tuning.py found best on other scenes.
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

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.core.refine.trust_region import TrustRegion
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior
from redepth_ros.viz.colormaps import colorize_normals
from training.scenes.relief import sample_relief
from training.scenes.render import Rendering
from training.scenes.textures import atlas

DEPTH_NETWORK = Path(__file__).parent / "relief_depth"
TEST_SEED = 50_000_000
TEST_ATLAS = 1
"""Seed of the textures: training uses 0, tuning 2."""

DEFAULT = PRESETS["default"]
UNCHECKED = {
    "min_initial_loss": 0.0,
    "max_early_loss_ratio": 0.0,
    "max_plane_loss_ratio": 0.0,
    "max_mirror_loss_ratio": 0.0,
}
"""Settings without the checks of the prior."""
VARIANTS = {
    "refined": DEFAULT,
    # Without the check by this prior, which would hide its effect.
    "random prior": dataclasses.replace(DEFAULT, **UNCHECKED),
    "smoothness alone": dataclasses.replace(DEFAULT, sds_weight=0.0, smoothness_weight=1.0, ensemble_size=1),
}
RATES = {"refined": DEFAULT.embedding_learning_rate, "random prior": 0.01, "smoothness alone": 0.01}
"""Learning rates, found by bench/refinement_tuning.py."""
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
    """Return the depth network, the prior and a randomly initialised copy of the prior."""
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
def scene(seed: int, texture_seed: int) -> Rendering:
    """Return the relief of a seed."""
    return sample_relief(seed, atlas(texture_seed))


def without_plane(depth: np.ndarray) -> np.ndarray:
    """Subtract the least-squares plane from depth (h, w)."""
    return depth - best_plane(depth)


def best_plane(depth: np.ndarray) -> np.ndarray:
    """Return the least-squares plane of depth (h, w)."""
    rows, columns = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    design = np.stack([rows.ravel(), columns.ravel(), np.ones(depth.size)], axis=1)
    return (design @ np.linalg.lstsq(design, depth.ravel(), rcond=None)[0]).reshape(depth.shape)


def measure(disparity: Tensor | np.ndarray, depth: Tensor) -> dict[str, float]:
    """Return errors of a disparity (h, w) whose scale and shift are fitted to the true depth (h, w)."""
    truth = depth.numpy().astype(np.float64)
    aligned = align_depth(np.asarray(disparity, np.float64).ravel(), truth.ravel()).reshape(truth.shape)
    errors = depth_errors(aligned.ravel(), truth.ravel())
    ratio = np.maximum(aligned / truth, truth / aligned)
    relief = np.abs(without_plane(aligned) - without_plane(truth)) / truth
    normals = OrthographicCamera().normals(torch.from_numpy(np.stack([aligned, truth])))
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
    """Return the fast disparity without the errors that the trust region does not limit."""
    sigma = (settings.trust_region_radius or 0.125) * min(truth.shape)
    disparity = settings.depth_scale / truth - settings.disparity_offset
    error = (disparity - fast)[None]
    return fast + (error - TrustRegion(error, sigma, 0.0).average(error))[0]


def refine(job: tuple[str, RefineSettings, int, int, str]) -> dict:
    """Refine one scene by one variant: errors, outcome, seconds and the maps."""
    variant, settings, seed, texture_seed, prior_name = job
    network, trained, random = load_networks(prior_name)
    rendering = scene(seed, texture_seed)
    image = to_uint8(rendering.image.permute(1, 2, 0).numpy())
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
    """Return the errors of the best plane and of the bound."""
    truth = scene(seed, TEST_ATLAS).depth
    return {
        "best plane": measure(1.0 / best_plane(truth.numpy()), truth),
        "bound": measure(bound(torch.from_numpy(fast), truth, DEFAULT), truth),
    }


def change(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Return the relative change of the mean, and its 95 % interval over scenes (10,000 resamplings)."""
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(before), (10_000, len(before)))
    ratios = after[chosen].mean(1) / before[chosen].mean(1) - 1.0
    low, high = np.percentile(ratios, (2.5, 97.5))
    return float(after.mean() / before.mean() - 1.0), float(low), float(high)


def difference(fast: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return how much the change from fast to the second mean differs from that to the first one.

    Returns:
        The difference and its 95 % interval over scenes, as shares of the fast mean.
    """
    chosen = np.random.default_rng(0).integers(0, len(fast), (10_000, len(fast)))
    values = (second[chosen].mean(1) - first[chosen].mean(1)) / fast[chosen].mean(1)
    low, high = np.percentile(values, (2.5, 97.5))
    return float((second.mean() - first.mean()) / fast.mean()), float(low), float(high)


def run_jobs(jobs: list, title: str) -> list[dict]:
    """Run jobs on all cores, with one thread each."""
    found = []
    with get_context("spawn").Pool() as pool, Progress() as progress:
        task = progress.add_task(title, total=len(jobs))
        for one in pool.imap(refine, jobs):
            found.append(one)
            progress.advance(task)
    return found


def summarise(console: Console, found: list[dict], scenes: int) -> dict:
    """Print and return the errors of all variants before and after refinement."""
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
    console.print(f"refined: median {seconds:.1f} s per image on one core of this machine")
    return {"summary": summary, "outcomes": outcomes, "seconds": seconds}


def plot(found: list[dict], summary: dict, path: Path, count: int = 6) -> None:
    """Write a figure of the first scenes with their normals and of the changes with intervals."""
    chosen = [one for one in found if one["variant"] == "refined"][:count]
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1.0))
    axes = left.subplots(4, count)
    titles = ("image", "true normals", "fast", "refined")
    for column, one in enumerate(chosen):
        rendering = scene(one["scene"], TEST_ATLAS)
        truth = rendering.depth.numpy().ravel()
        maps = [rendering.depth.numpy().astype(np.float64)] + [
            align_depth(one[f"{name}_map"].astype(np.float64).ravel(), truth).reshape(rendering.depth.shape)
            for name in ("fast", "refined")
        ]
        normals = OrthographicCamera().normals(torch.from_numpy(np.stack(maps).astype(np.float32)))
        drawn = [colorize_normals(one) for one in normals.numpy()]
        for row, image in enumerate([rendering.image.permute(1, 2, 0).numpy(), *drawn]):
            axes[row, column].imshow(image.clip(0.0, 1.0))
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
            np.arange(len(names)) + 0.38 * offset,
            heights,
            0.36,
            label=label,
            xerr=np.abs(ends - heights[:, None]).T,
        )
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
        "--seeds", type=int, default=2, help="runs per scene, with different lights and noise"
    )
    parser.add_argument("--prior", default="tiny")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    console = Console()
    jobs = []
    for name, settings in VARIANTS.items():
        for run in range(options.seeds if name == "refined" else 1):
            settings = dataclasses.replace(settings, embedding_learning_rate=RATES[name], seed=run)
            seeds = range(TEST_SEED, TEST_SEED + options.scenes)
            jobs += [(name, settings, seed, TEST_ATLAS, options.prior) for seed in seeds]
    found = run_jobs(jobs, "refining")
    results = summarise(console, found, options.scenes)
    if options.json:
        scenes = [{k: v for k, v in one.items() if not k.endswith("_map")} for one in found]
        options.json.write_text(json.dumps({**results, "runs": scenes}, indent=1))
    if options.figure:
        plot(found, results["summary"], options.figure)


if __name__ == "__main__":
    main()
