#!/usr/bin/env python3
"""Gain of the refinement on held-out rendered images, compared with controls.

    ./dev bench refinement_gain [--domain reliefs] [--scenes 64] [--seeds 2] [--json FILE] [--figure FILE]

Domains: `reliefs` are surfaces that fill the image. Their depth network (bench/relief_depth) was trained on
plain ones lit from the upper left; the reliefs here have other textures, light from above from any side, and
some gloss. `scenes` are rooms, streets, table tops and open ground for the embedded depth network, with
textures that its training did not have. No label of either is used.

Controls: the same refinement with a randomly initialised prior; smoothness alone; the best plane (fitted to
the truth); and a bound, the fast depth with all errors corrected that the trust region does not limit.
Changes are those of the means over images, with paired bootstrap intervals over images. An image counts as
worse if its error grows by more than 2 %. Settings of the refinement and of each control are those that
bench/refinement_tuning.py found best on other reliefs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench.domains import (
    DOMAINS,
    TEST_ATLAS,
    TEST_SEED,
    best_plane,
    bound,
    draw,
    load_networks,
    measure,
    visible,
)
from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metrics import align_depth
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.viz.colormaps import colorize_normals

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


@dataclass(frozen=True)
class Job:
    """A refinement of one image."""

    variant: str
    settings: RefineSettings
    seed: int
    texture_seed: int
    prior: str = "tiny"
    domain: str = "reliefs"


def refine(job: Job) -> dict:
    """Refine one image by one variant: errors, outcome, seconds and the maps."""
    network, trained, random = load_networks(job.domain, job.prior)
    rendering, camera = draw(job.domain, job.seed, job.texture_seed)
    image = to_uint8(rendering.image.permute(1, 2, 0).numpy())
    start = time.perf_counter()
    prior = random if job.variant == "random prior" else trained
    run = Refiner(network, prior, job.settings).start(network.preprocess(image), camera=camera)
    for _ in run.steps():
        pass
    result = run.result()
    seconds = time.perf_counter() - start
    return {
        "variant": job.variant,
        "scene": job.seed,
        "seconds": seconds,
        "outcome": result.outcome.name,
        "message": result.message,
        "errors": measure(result.refined, rendering.depth, camera),
        "fast": measure(result.fast, rendering.depth, camera),
        "refined_map": result.refined.numpy(),
        "fast_map": result.fast.numpy(),
    }


def baselines(domain: str, seed: int, fast: np.ndarray) -> dict[str, dict[str, float]]:
    """Return the errors of the best plane and of the bound."""
    rendering, camera = draw(domain, seed, TEST_ATLAS)
    truth = rendering.depth
    # Parallel rays see a plane as one in depth, a pinhole camera as one in inverse depth.
    known = np.where(visible(truth.numpy()), truth.numpy(), np.nan).astype(np.float64)
    plane = 1.0 / best_plane(known) if camera is None else best_plane(1.0 / known)
    return {
        "best plane": measure(plane, truth, camera),
        "bound": measure(bound(torch.from_numpy(fast), truth, DOMAINS[domain].shift, DEFAULT), truth, camera),
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


def run_jobs(jobs: list[Job], title: str) -> list[dict]:
    """Run jobs on all cores, with one thread each."""
    found = []
    with get_context("spawn").Pool() as pool, Progress() as progress:
        task = progress.add_task(title, total=len(jobs))
        for one in pool.imap(refine, jobs):
            found.append(one)
            progress.advance(task)
    return found


def summarise(console: Console, found: list[dict], domain: str) -> dict:
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
    others = {seed: baselines(domain, seed, maps[seed]) for seed in order}
    for name in ("best plane", "bound"):
        per_scene[name] = {seed: others[seed][name] for seed in order}

    table = Table("", *MEASURES.values(), "worse", title=f"{len(order)} held-out {domain}, means over images")
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


def plot(found: list[dict], summary: dict, domain: str, path: Path, count: int = 6) -> None:
    """Write a figure of the first scenes with their normals and of the changes with intervals."""
    chosen = [one for one in found if one["variant"] == "refined"][:count]
    figure = Figure(figsize=(11.5, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2.1, 1.0))
    axes = left.subplots(4, count)
    titles = ("image", "true normals", "fast", "refined")
    for column, one in enumerate(chosen):
        rendering, camera = draw(domain, one["scene"], TEST_ATLAS)
        truth = rendering.depth.numpy().astype(np.float64)
        counted = visible(truth)
        maps = np.where(counted, truth, np.nan)[None].repeat(3, axis=0)  # (3, h, w)
        for number, name in enumerate(("fast", "refined"), 1):
            disparity = one[f"{name}_map"].astype(np.float64)
            maps[number][counted] = align_depth(disparity[counted], truth[counted])
        normals = (camera or OrthographicCamera()).normals(torch.from_numpy(maps.astype(np.float32)))
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
    parser.add_argument("--domain", choices=list(DOMAINS), default="reliefs")
    parser.add_argument("--scenes", type=int, default=64, help="images")
    parser.add_argument(
        "--seeds", type=int, default=2, help="runs per scene, with different lights and noise"
    )
    parser.add_argument("--prior", default="tiny")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    console = Console()
    jobs = []
    seeds = range(TEST_SEED, TEST_SEED + options.scenes)
    for name, settings in VARIANTS.items():
        for run in range(options.seeds if name == "refined" else 1):
            settings = dataclasses.replace(settings, embedding_learning_rate=RATES[name], seed=run)
            jobs += [Job(name, settings, seed, TEST_ATLAS, options.prior, options.domain) for seed in seeds]
    found = run_jobs(jobs, "refining")
    results = summarise(console, found, options.domain)
    if options.json:
        scenes = [{k: v for k, v in one.items() if not k.endswith("_map")} for one in found]
        options.json.write_text(json.dumps({**results, "runs": scenes}, indent=1))
    if options.figure:
        plot(found, results["summary"], options.domain, options.figure)


if __name__ == "__main__":
    main()
