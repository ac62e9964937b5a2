#!/usr/bin/env python3
"""Calibration of the standard deviation of fast depth with anchors: coverage and a reliability plot.

    ./dev bench uncertainty [--pairs DIR] [--draws 5] [--json FILE] [--figure FILE]

Each real RGB-D pair gets 200 anchors with 1 % noise and 10 % outliers, as in redepth evaluate. Two depths
are judged: that of scale and shift alone (core/metric/uncertainty.py), and the fused one
(core/metric/fusion_stddev.py), which refuses no draw. The error of every other pixel is compared with its
standard deviation. Pixels are sorted by their claimed relative standard deviation. In each tenth of them, the
root mean squares of the claimed and of the true error (both limited to 100 %) should be equal.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from redepth_ros.cli.anchor_patterns import sample_anchors
from redepth_ros.cli.datasets import MAX_DEPTH, Pair, read_pairs
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.metric.uncertainty import depth_stddev
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.nodes.settings import DepthSettings

SHARED = Path(__file__).parents[2] / "shared" / "data" / "rgbd"
ASSUMED = DepthSettings().assumed_relative_stddev
PIXELS = 20_000
"""Pixels counted per draw, so that every pair has the same weight."""
SCALED, FUSED = "scale and shift alone", "fused with the anchors"

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """Claims against errors of all counted pixels."""

    draws: int
    coverage: tuple[float, ...]
    """Shares of the pixels within 1, 2 and 3 standard deviations."""
    tenths: tuple[tuple[float, float], ...]
    """Claimed and true relative error (RMS) in tenths of the pixels, sorted by claim."""

    @classmethod
    def from_draws(cls, draws: list[Map]) -> Calibration:
        """Summarize claimed and true relative errors (2, PIXELS) of several draws."""
        claimed, error = np.concatenate(draws, axis=1)
        coverage = tuple(float((np.abs(error) < k * claimed).mean()) for k in (1, 2, 3))
        parts = np.array_split(np.argsort(claimed), 10)
        limited = np.clip(claimed, 0.0, 1.0), np.clip(error, -1.0, 1.0)
        first, second = ([float(np.sqrt((one[part] ** 2).mean())) for part in parts] for one in limited)
        return cls(len(draws), coverage, tuple(zip(first, second, strict=True)))


def estimate_depth(disparity: Tensor, image: Map, truth: Map, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Return depth and standard deviation (H, W) by method; without SCALED if the fit refuses the anchors."""
    anchors = sample_anchors(truth, 200, seed)
    found, scale = {}, None
    try:
        fit = fit_scale(anchors.sample(disparity).numpy(), anchors.depth)
        scale, depth = fit.scale, fit.scale.depth(disparity)
        found[SCALED] = depth, depth_stddev(depth, disparity, scale, fit.residual_stddev, ASSUMED)
    except AnchorError:
        pass
    fused = fuse_depth(disparity, anchors, scale, image=torch.from_numpy(image))
    return {**found, FUSED: (fused.depth, fused.stddev)}


def judge(model: DepthAnything, pair: Pair, seeds: range) -> dict[str, list[Map]]:
    """Return claimed and true relative errors of random pixels, (2, PIXELS) a draw, by method."""
    image, truth = pair.image(), pair.depth()
    truth = np.where(truth < MAX_DEPTH, truth, np.float32(np.nan))
    disparity = model.predict(image).float()
    judged: dict[str, list[Map]] = {}
    for seed in seeds:
        unmeasured = np.isfinite(truth) & np.isnan(sample_anchors(truth, 200, seed).to_depth())
        for method, (depth, stddev) in estimate_depth(disparity, image, truth, seed).items():
            counted = np.flatnonzero(unmeasured & np.isfinite(depth.numpy()))
            index = np.random.default_rng(seed).choice(counted, PIXELS)
            claimed, found = (one.numpy().ravel()[index] for one in (stddev / depth, depth))
            # Relative to the estimate, because the truth is unknown in use.
            judged.setdefault(method, []).append(np.stack((claimed, 1.0 - truth.ravel()[index] / found)))
    return judged


def plot_reliability(results: dict[str, Calibration]) -> Figure:
    """Plot claimed against true error, by tenths of the claim."""
    figure = Figure(figsize=(5.2, 4.6), layout="constrained")
    axis = figure.subplots()
    largest = 1.2 * max(max(pair) for one in results.values() for pair in one.tenths)
    smallest = 0.8 * min(min(pair) for one in results.values() for pair in one.tenths)
    ends = np.array((smallest, largest))
    axis.fill_between(ends, ends / 1.4, ends * 1.4, color="0.9", label="right within a factor of 1.4")
    axis.plot(ends, ends, color="0.5", label="calibrated")
    for (method, one), marker in zip(results.items(), ("s", "o"), strict=False):
        axis.plot(*zip(*one.tenths, strict=True), marker=marker, label=f"{method}, {one.draws} draws")
    axis.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if smallest < tick < largest]
    for side in (axis.xaxis, axis.yaxis):
        side.set_ticks(ticks, [f"{tick:.0%}" for tick in ticks])
        side.set_ticks([], minor=True)
    axis.set_xlabel("claimed relative standard deviation (RMS)")
    axis.set_ylabel("true relative error (RMS)")
    axis.legend(loc="upper left", fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=SHARED, help="data set, see redepth evaluate")
    parser.add_argument("--draws", type=int, default=5, help="draws of anchors per pair")
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--figure", type=Path, help="file for the reliability plot")
    options = parser.parse_args()
    console = Console()
    torch.set_num_threads(1)
    model = DepthAnything.load("tiny")
    judged: dict[str, list[Map]] = {SCALED: [], FUSED: []}
    for pair in track(read_pairs(options.pairs), "pairs", console=console):
        for method, draws in judge(model, pair, range(options.draws)).items():
            judged[method] += draws
    results = {method: Calibration.from_draws(draws) for method, draws in judged.items() if draws}
    for method, one in results.items():
        table = Table("tenth", "claimed", "true", title=f"{method}, {one.draws} draws")
        for number, (claimed, true) in enumerate(one.tenths, 1):
            table.add_row(str(number), f"{claimed:.1%}", f"{true:.1%}")
        console.print(table)
        within = ", ".join(f"{share:.1%}" for share in one.coverage)
        console.print(f"within 1, 2, 3 standard deviations: {within}")
    console.print("a calibrated Gaussian has 68 %, 95 %, 99.7 %")
    console.print(f"{len(judged[FUSED]) - len(judged[SCALED])} draws refused by the fit of scale and shift")
    if options.json:
        saved = {method: vars(one) for method, one in results.items()}
        options.json.write_text(json.dumps(saved, indent=1))
    if options.figure:
        plot_reliability(results).savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
