#!/usr/bin/env python3
"""Calibration of the standard deviation of fast, anchored depth: coverage and a reliability plot.

    ./dev bench uncertainty [--pairs DIR] [--draws 5] [--json FILE] [--figure FILE]

On real RGB-D pairs the scale is fitted to 200 anchors with 1 % noise and 10 % outliers, as in redepth
evaluate. The error of every other pixel is compared with its standard deviation
(core/metric/uncertainty.py). Pixels are sorted by their claimed relative standard deviation. In each
tenth of them, the root mean squares of the claimed and of the true error (both limited to 100 %)
should be equal.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from rich.table import Table

from redepth_ros.cli.datasets import MAX_DEPTH, read_pairs
from redepth_ros.cli.evaluate import sample_anchors
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.metric.uncertainty import depth_stddev
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.nodes.settings import DepthSettings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "rgbd"
ASSUMED = DepthSettings().assumed_relative_stddev
PIXELS = 20_000
"""Pixels counted per draw, so that every pair has the same weight."""


def claimed_and_true(model: DepthAnything, image: np.ndarray, truth: np.ndarray, seed: int) -> np.ndarray:
    """Return claimed relative standard deviation and true relative error of random pixels: (2, PIXELS)."""
    anchors = sample_anchors(truth, 200, seed)
    disparity = model.predict(image)
    fit = fit_scale(anchors.sample(disparity).numpy(), anchors.depth)
    depth = fit.scale.depth(disparity)
    deviation = depth_stddev(depth, disparity, fit.scale, fit.misfit, ASSUMED)
    counted = np.isfinite(truth) & np.isnan(anchors.to_depth()) & np.isfinite(depth.numpy())
    places = np.random.default_rng(seed).choice(np.flatnonzero(counted), PIXELS)
    claimed, found = (one.numpy().ravel()[places] for one in (deviation / depth, depth))
    # Relative to the prediction, because the truth is unknown in use.
    return np.stack((claimed, 1.0 - truth.ravel()[places] / found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=SHARED, help="data set, see redepth evaluate")
    parser.add_argument("--draws", type=int, default=5, help="draws of anchors per pair")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args()
    console, found, refused = Console(), [], 0
    torch.set_num_threads(1)
    model = DepthAnything.load("tiny")
    for pair in track(read_pairs(options.pairs), "pairs", console=console):
        truth = pair.depth()
        truth = np.where(truth < MAX_DEPTH, truth, np.float32(np.nan))
        for seed in range(options.draws):
            try:
                found.append(claimed_and_true(model, pair.image(), truth, seed))
            except AnchorError:
                refused += 1
    claimed, error = np.concatenate(found, axis=1)
    ratio = np.abs(error) / claimed
    coverage = {f"within {k} deviations": float((ratio < k).mean()) for k in (1, 2, 3)}
    order = np.argsort(claimed)
    bounded = np.clip(claimed, 0.0, 1.0), np.clip(error, -1.0, 1.0)
    tenths = [
        [float(np.sqrt((one[part] ** 2).mean())) for one in bounded] for part in np.array_split(order, 10)
    ]
    table = Table("tenth", "claimed", "true", title=f"{len(found)} draws")
    for number, (one, other) in enumerate(tenths, 1):
        table.add_row(str(number), f"{one:.1%}", f"{other:.1%}")
    console.print(table)
    console.print(", ".join(f"{name}: {share:.0%}" for name, share in coverage.items()))
    console.print(f"{refused} draws refused by the fit")
    console.print("a calibrated Gaussian has 68 %, 95 %, 100 %")
    if options.json:
        options.json.write_text(json.dumps({"coverage": coverage, "tenths": tenths, "refused": refused}))
    if options.figure:
        figure = Figure(figsize=(4.2, 4.0), layout="constrained")
        axis = figure.subplots()
        largest = 1.1 * max(max(pair) for pair in tenths)
        axis.plot((0, largest), (0, largest), color="0.6", label="calibrated")
        axis.plot(*zip(*tenths, strict=True), marker="o", label="fast depth, anchored")
        axis.set_xlabel("claimed relative standard deviation")
        axis.set_ylabel("true relative error (RMS)")
        axis.legend()
        figure.savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
