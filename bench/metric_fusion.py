#!/usr/bin/env python3
"""Error, calibration and time of fused depth, beside controls.

    ./dev bench metric_fusion [--pairs DIR] [--seeds 20] [--more] [--json FILE]

AbsRel on real RGB-D pairs, at pixels that were no anchors. Networks: the embedded one; a genuine small one
(outputs in shared/data/networks); a large one, for pairs that come with its disparity. Methods:

- global: scale and shift fitted to the anchors; the median of the anchors if the fit is refused
- interpolated: no network; outliers removed by the median of the 8 nearest anchors, then linear in ln depth
- anchors alone: the Gaussian process of the fusion without network and image
- fused: redepth_ros/core/metric/fusion.py

After that: calibration of the standard deviation, the study of walls that hold most anchors, and the time
at 640 x 480.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate
from wall_scenes import NOISE, fit_global, study_walls

from redepth_ros.cli.datasets import MAX_DEPTH, Pair, read_pairs
from redepth_ros.cli.interpolation import interpolate_anchors
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.models.depth_anything import DepthAnything

SHARED = Path(__file__).parents[2] / "shared" / "data"
PIXELS = 20_000
"""Pixels that are judged in each draw."""
CALIBRATION_PIXELS = 2000
"""Pixels of each draw in the table of the calibration, so that every pair has the same weight."""
METHODS = ("global", "interpolated", "anchors alone", "fused")

Map = NDArray[np.float32]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Pattern:
    """Where anchors are drawn."""

    name: str
    count: int
    outliers: float
    """Share of the anchors with a random depth between the nearest and the farthest."""
    lines: int = 0
    """Rows on which the anchors lie; 0 for anywhere."""


PATTERNS = (
    Pattern("200 random, 10 % outliers", 200, 0.1),
    Pattern("30 random, 10 % outliers", 30, 0.1),
    Pattern("200 on 16 lines, 10 % outliers", 200, 0.1, lines=16),
    Pattern("200 random, 50 % outliers", 200, 0.5),
)
MORE_PATTERNS = (
    Pattern("1000 random, 10 % outliers", 1000, 0.1),
    Pattern("2000 random, 10 % outliers", 2000, 0.1),
)
TARGETS = {
    "embedded": (0.055, 0.105, 0.070, None),
    "small": (0.048, 0.095, 0.060, None),
    "large": (0.007, 0.012, 0.012, 0.012),
}
"""Wanted AbsRel by pattern; None: 25 % less than interpolated."""


def sample_anchors(truth: Map, pattern: Pattern, rng: np.random.Generator) -> Anchors:
    """Draw measured pixels with noise and outliers."""
    allowed = np.isfinite(truth)
    if pattern.lines:
        rows = np.linspace(0.05, 0.95, pattern.lines) * (len(truth) - 1)
        on_lines = np.zeros_like(allowed)
        on_lines[np.unique(np.rint(rows).astype(int))] = True
        allowed &= on_lines
    index = np.flatnonzero(allowed)
    index = rng.choice(index, min(pattern.count, len(index)), replace=False)
    depth = truth.flat[index] * (1.0 + NOISE * rng.standard_normal(len(index)))
    wrong = int(pattern.outliers * len(index))
    depth[:wrong] = rng.uniform(np.nanmin(truth), np.nanmax(truth), wrong)
    rows, columns = np.divmod(index, truth.shape[1])
    return Anchors(rows, columns, depth, *truth.shape)


def read_disparities(pair: Pair, model: DepthAnything) -> dict[str, Tensor]:
    """Return the disparities (H, W) of a pair by network."""
    found = {"embedded": model.predict(pair.image()).float()}
    shape = tuple(found["embedded"].shape)
    stored = SHARED / "networks" / "tcmonodepth_small" / f"{pair.name}.npz"
    if stored.exists():
        small = torch.from_numpy(np.load(stored)["disparity"].astype(np.float32))
        small = small.reshape(1, 1, *small.shape[-2:])
        found["small"] = interpolate(small, shape, mode="bilinear")[0, 0]
    large = pair.folder / "predicted_relative_disparity.npz"
    if large.exists():
        found["large"] = torch.from_numpy(np.load(large)["disparity"].astype(np.float32))
    return found


@dataclass(frozen=True)
class Draw:
    """One draw of anchors of a pair, and the pixels that are judged."""

    truth: Map
    image: Tensor
    anchors: Anchors
    index: NDArray[np.int64]
    """(PIXELS,) of the flattened image."""
    controls: dict[str, Array]
    """Depth (PIXELS,) by method without a network."""

    @classmethod
    def sample(cls, truth: Map, image: Tensor, pattern: Pattern, seed: int) -> Draw:
        """Draw anchors and pixels, and estimate depth without a network."""
        rng = np.random.default_rng(seed)
        anchors = sample_anchors(truth, pattern, rng)
        counted = np.isfinite(truth) & np.isnan(anchors.to_depth())
        index = rng.choice(np.flatnonzero(counted), PIXELS)
        alone = fuse_depth(torch.zeros(truth.shape), anchors, None, noise=NOISE)
        pixels = np.stack(np.divmod(index, truth.shape[1]), axis=1)
        controls = {
            "interpolated": interpolate_anchors(anchors, pixels),
            "anchors alone": alone.depth.numpy().ravel()[index],
        }
        return cls(truth, image, anchors, index, controls)

    def judge(self, disparity: Tensor) -> tuple[dict[str, Any], NDArray[np.float32]]:
        """Return AbsRel by method, and claimed and true relative errors of the fused pixels (2, PIXELS)."""
        truth = self.truth.ravel()[self.index]
        scale = fit_global(disparity, self.anchors)
        fused = fuse_depth(disparity, self.anchors, scale, image=self.image, noise=NOISE)
        estimates = {**self.controls, "fused": fused.depth.numpy().ravel()[self.index]}
        estimates["global"] = np.full(len(truth), np.median(self.anchors.depth))
        if scale is not None:
            limit = np.float32(10.0 * np.nanmax(self.truth))
            depth = scale.depth(disparity).nan_to_num(float(limit)).numpy().ravel()[self.index]
            estimates["global"] = np.minimum(depth, limit)
        errors = {name: float(np.abs(estimates[name] / truth - 1.0).mean()) for name in METHODS}
        claimed = fused.stddev.numpy().ravel()[self.index] / estimates["fused"]
        # Relative to the estimate, because the truth is unknown in use.
        calibration = np.stack((claimed, 1.0 - truth / estimates["fused"])).astype(np.float32)
        return {**errors, "refused": scale is None}, calibration


def compare(
    pairs: list[Pair], patterns: tuple[Pattern, ...], seeds: int, console: Console
) -> tuple[dict[str, Any], dict[str, list[NDArray[np.float32]]]]:
    """Return means over the seeds by network, pattern and pair, and claims and errors by network."""
    model = DepthAnything.load("tiny")
    results: dict[str, Any] = {}
    calibration: dict[str, list[NDArray[np.float32]]] = {}
    for pair in track(pairs, "pairs", console=console):
        truth = pair.depth()
        truth = np.where(truth < MAX_DEPTH, truth, np.float32(np.nan))
        image = torch.from_numpy(pair.image())
        disparities = read_disparities(pair, model)
        for pattern in patterns:
            rows: dict[str, list[dict[str, Any]]] = {network: [] for network in disparities}
            for seed in range(seeds):
                draw = Draw.sample(truth, image, pattern, seed)
                for network, disparity in disparities.items():
                    row, claims = draw.judge(disparity)
                    rows[network].append(row)
                    for name in (network, f"{network}, {pattern.name}"):
                        calibration.setdefault(name, []).append(claims[:, :CALIBRATION_PIXELS])
            for network, draws in rows.items():
                mean = {name: float(np.mean([row[name] for row in draws])) for name in METHODS}
                mean["refused"] = sum(row["refused"] for row in draws)
                mean["draws"] = len(draws)
                results.setdefault(network, {}).setdefault(pattern.name, {})[pair.name] = mean
    return results, calibration


def bootstrap_interval(differences: Array) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of the mean over pairs."""
    rng = np.random.default_rng(0)
    means = differences[rng.integers(0, len(differences), (4000, len(differences)))].mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def summarize(network: str, index: int, pairs: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return means over pairs and the comparison with interpolation, for one network and pattern."""
    rows = list(pairs.values())
    means = {method: float(np.mean([row[method] for row in rows])) for method in METHODS}
    gains = np.array([row["fused"] - row["interpolated"] for row in rows])
    target = TARGETS[network][index] if index < len(PATTERNS) else float("nan")
    return {
        **means,
        "pairs": len(rows),
        "draws": sum(int(row["draws"]) for row in rows),
        "refused": sum(int(row["refused"]) for row in rows),
        "target": 0.75 * means["interpolated"] if target is None else target,
        "gain": float(gains.mean()),
        "gain_interval": bootstrap_interval(gains),
        "better_than_interpolated": int((gains < 0).sum()),
        "better_than_anchors_alone": sum(row["fused"] < row["anchors alone"] for row in rows),
    }


def show_errors(results: dict[str, Any], console: Console) -> dict[str, Any]:
    """Print the table of AbsRel; return its summaries by network and pattern."""
    table = Table(
        *("network", "anchors", "pairs", *METHODS, "target", "fused - interpolated"),
        *("better than interpolated", "than anchors alone", "global fit refused"),
        title="AbsRel at pixels that were no anchors",
    )
    found: dict[str, Any] = {}
    for network, patterns in results.items():
        for index, (name, pairs) in enumerate(patterns.items()):
            row = found.setdefault(network, {})[name] = summarize(network, index, pairs)
            target = ""
            if row["target"] == row["target"]:
                target = f"{row['target']:.4f} {'met' if row['fused'] <= row['target'] else 'MISSED'}"
            low, high = row["gain_interval"]
            table.add_row(
                *(network, name, str(row["pairs"])),
                *(f"{row[method]:.4f}" for method in METHODS),
                target,
                f"{row['gain']:+.4f} ({low:+.4f} to {high:+.4f})",
                f"{row['better_than_interpolated']} of {row['pairs']}",
                f"{row['better_than_anchors_alone']} of {row['pairs']}",
                f"{row['refused']} of {row['draws']} draws",
            )
    console.print(table)
    return found


def show_calibration(calibration: dict[str, list[NDArray[np.float32]]], console: Console) -> dict[str, Any]:
    """Print and return coverage, and claimed over true error in tenths of the pixels by claim."""
    table = Table(
        "network", "within 1", "2", "3 deviations", "claimed / true error (RMS), by tenths of claim"
    )
    everything = [claims for name, rows in calibration.items() if "," not in name for claims in rows]
    found = {}
    for name, claims in {"all": everything, **calibration}.items():
        claimed, error = np.concatenate(claims, axis=1)
        coverage = [float((np.abs(error) < k * claimed).mean()) for k in (1, 2, 3)]
        error, claimed = np.clip(error, -1.0, 1.0), np.minimum(claimed, 1.0)
        parts = np.array_split(np.argsort(claimed), 10)
        tenths = [[float(np.sqrt((one[part] ** 2).mean())) for one in (claimed, error)] for part in parts]
        found[name] = {"coverage": coverage, "tenths": tenths}
        table.add_row(
            name, *(f"{share:.1%}" for share in coverage), " ".join(f"{a / b:.2f}" for a, b in tenths)
        )
    console.print(table)
    return found


def measure_time(console: Console) -> dict[str, dict[str, float]]:
    """Print and return milliseconds of 40 calls of `fuse_depth` at 640 x 480."""
    rng = np.random.default_rng(0)
    row, column = np.mgrid[0:480, 0:640]
    depth = (2.0 + 0.01 * row + np.sin(column / 60.0)).astype(np.float32)
    image = torch.from_numpy(rng.integers(0, 255, (480, 640, 3), dtype=np.uint8))
    found = {}
    for network, error in (("good", 0.03), ("poor", 0.6)):
        factor = 1.0 + error * np.cos(row / 50.0) * np.cos(column / 70.0)
        disparity = torch.from_numpy((6.0 / depth * factor - 0.4).astype(np.float32))
        for count in (30, 200, 2000):
            anchors = sample_anchors(depth, Pattern("", count, 0.1), rng)
            scale = fit_global(disparity, anchors)
            seconds = []
            for _ in range(40):
                start, start_cpu = time.perf_counter(), time.process_time()
                fuse_depth(disparity, anchors, scale, image=image, noise=NOISE)
                seconds.append((time.perf_counter() - start, time.process_time() - start_cpu))
            wall, processor = (np.array(one) * 1e3 for one in zip(*seconds, strict=True))
            times = {"least": wall.min(), "median": float(np.median(wall)), "processor": processor.min()}
            found[f"{network} network, {count} anchors"] = times
            console.print(
                f"640 x 480, {torch.get_num_threads()} threads, {network} network, {count} anchors: "
                f"least {times['least']:.1f} ms, median {times['median']:.1f} ms, least processor time "
                f"{times['processor']:.1f} ms"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=Path, default=SHARED / "rgbd", help="data set, see redepth evaluate")
    parser.add_argument("--seeds", type=int, default=20, help="draws of anchors per pair")
    parser.add_argument("--more", action="store_true", help="also 1,000 and 2,000 anchors")
    parser.add_argument("--threads", type=int, default=1, help="threads while the time is measured")
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    console = Console(width=200)
    results: dict[str, Any] = {}
    torch.set_num_threads(1)
    if options.pairs.exists():
        patterns = PATTERNS + MORE_PATTERNS if options.more else PATTERNS
        errors, calibration = compare(read_pairs(options.pairs), patterns, options.seeds, console)
        results["pairs"], results["errors"] = errors, show_errors(errors, console)
        results["calibration"] = show_calibration(calibration, console)
    else:
        console.print(f"no {options.pairs}: real pairs are left out (--pairs names another folder)")
    results["walls"] = study_walls(20, console)
    torch.set_num_threads(options.threads)
    results["milliseconds"] = measure_time(console)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
