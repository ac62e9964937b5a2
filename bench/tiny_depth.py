#!/usr/bin/env python3
"""Error of the embedded network `tiny`, compared with baselines that see no image.

    ./dev bench tiny_depth [--pairs ../shared/data/rgbd] [--scenes 200] [--model FOLDER] [--json FILE]

Uses held-out rendered scenes and, if the folder exists, real RGB-D pairs. Scale and shift of each
prediction are fitted to the truth (see core/metrics.py). The baselines are fitted to the truth of each
image: constant depth; a ground plane, whose disparity grows linearly with the row; a plane in any
direction. For pairs with sharp true edges it prints the F1 score of depth edges, and that of the true
depth at the size of the network's output.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from redepth_ros.cli.datasets import MAX_DEPTH, Pair, read_pairs
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metrics import align_depth, boundary_f1, depth_errors
from redepth_ros.models.depth_anything import DepthAnything
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

HELD_OUT = 95_000_000
"""First of the seeds that were used neither for training nor for tuning."""


def rendered(count: int) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield kind, image and depth in metres of held-out scenes."""
    textures = atlas()
    for seed in range(HELD_OUT, HELD_OUT + count):
        scene = sample_scene(seed, len(textures[0]), 320, 240)
        found = render(scene, textures)
        image = to_uint8(found.image.permute(1, 2, 0).numpy())
        yield scene.kind, image, found.depth.numpy()


def errors(
    model: DepthAnything, image: np.ndarray, truth: np.ndarray, input_size: int
) -> dict[str, dict[str, float]]:
    """Return the errors of the network and of each baseline on one image."""
    height, width = truth.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    valid = np.isfinite(truth) & (truth > 0) & (truth < MAX_DEPTH)
    measured = truth[valid]
    design = np.stack([rows[valid], columns[valid], np.ones(len(measured))], axis=1)
    plane = design @ np.linalg.lstsq(design, 1.0 / measured, rcond=None)[0]
    candidates = {
        "tiny": model.predict(image, input_size=input_size).numpy()[valid],
        "constant depth": np.ones(len(measured)),
        "ground plane": rows[valid],
        "any plane": plane,
    }
    return {
        name: depth_errors(align_depth(disparity, measured), measured)
        for name, disparity in candidates.items()
    }


def edges(model: DepthAnything, image: np.ndarray, truth: np.ndarray, input_size: int) -> dict[str, float]:
    """Return the F1 score of depth edges: of the network, and of the truth at the size of its output."""
    valid = np.isfinite(truth) & (truth > 0) & (truth < MAX_DEPTH)
    inverse = np.divide(1.0, truth, out=np.zeros_like(truth), where=valid)
    height, width = model.network_size(*truth.shape, input_size)
    small = cv2.resize(inverse, (width, height), interpolation=cv2.INTER_AREA)
    candidates = {
        "tiny": model.predict(image, input_size=input_size).numpy(),
        f"truth at {width} x {height}": cv2.resize(small, truth.shape[::-1], interpolation=cv2.INTER_LINEAR),
    }
    scores = {}
    for name, disparity in candidates.items():
        depth = np.full(truth.shape, np.nan)
        depth[valid] = align_depth(disparity[valid], truth[valid])
        scores[name] = boundary_f1(depth, np.where(valid, truth, np.nan))
    return scores


def report(
    console: Console, title: str, found: list[dict[str, dict[str, float]]]
) -> dict[str, dict[str, float]]:
    """Print and return the means over images."""
    means = {
        name: {measure: float(np.mean([one[name][measure] for one in found])) for measure in found[0][name]}
        for name in found[0]
    }
    table = Table("", "AbsRel", "RMSE", "log10", "delta 1.25", title=title)
    for name, mean in means.items():
        table.add_row(
            name,
            f"{mean['abs_rel']:.3f}",
            f"{mean['rmse']:.3f}",
            f"{mean['log10']:.3f}",
            f"{mean['delta1']:.3f}",
        )
    for other in list(means)[1:]:
        better = sum(one["tiny"]["abs_rel"] < one[other]["abs_rel"] for one in found)
        table.add_row(f"tiny is better than {other} on", f"{better} of {len(found)}", "", "", "")
    console.print(table)
    return means


def report_pairs(
    console: Console, model: DepthAnything, pairs: list[Pair], input_size: int
) -> dict[str, dict[str, float]]:
    """Print the errors of each real pair, and the edges of those whose truth is sharp; return the means."""
    found = {one.name: errors(model, one.image(), one.depth(), input_size) for one in pairs}
    means = report(console, f"{len(pairs)} real pairs", list(found.values()))
    table = Table("pair", *next(iter(found.values())), title="AbsRel of each real pair")
    for name, candidates in found.items():
        table.add_row(name, *(f"{one['abs_rel']:.3f}" for one in candidates.values()))
    console.print(table)
    for one in pairs:
        if one.sharp:
            scores = edges(model, one.image(), one.depth(), input_size)
            text = ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
            console.print(f"F1 of the edges of {one.name}: {text}")
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=Path(__file__).parents[2] / "shared/data/rgbd")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--model", default="tiny", help="folder of the network; default: the embedded one")
    parser.add_argument("--input-size", type=int, default=0, help="pixels; 0 takes the network's own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    model = DepthAnything.load(options.model, device="cpu")
    results = {}
    scenes = track(rendered(options.scenes), "rendering", total=options.scenes, console=console)
    by_kind: dict[str, list] = {}
    for kind, image, truth in scenes:
        by_kind.setdefault(kind, []).append(errors(model, image, truth, options.input_size))
    everything = [one for found in by_kind.values() for one in found]
    if everything:
        results["rendered"] = report(console, f"{len(everything)} held-out rendered scenes", everything)
    for kind, found in sorted(by_kind.items()):
        results[kind] = report(console, f"of which {kind}: {len(found)}", found)
    if (options.pairs / "index.csv").exists():
        results["real"] = report_pairs(console, model, list(read_pairs(options.pairs)), options.input_size)
    else:
        console.print(f"no real pairs: there is no index.csv in {options.pairs}")
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
