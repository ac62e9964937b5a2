#!/usr/bin/env python3
"""Accuracy of a scale fit to 200 anchors, and steadiness of the filtered scale.

    ./dev bench scale_fit [--draws 1000] [--pairs DIR] [--json FILE]

For each RGB-D pair, random pixels with range noise and gross outliers (random depths within the
image's range) are fitted many times. The scale is compared with the least-squares fit of the same
disparity to all valid pixels. The plain fit is a least-squares fit that knows which anchors are right:
the limit of what so few pixels show. There are three disparities: of a real network (for the pair
room_corner only); of the embedded network, whose error is too large for 200 pixels; and the true depth
with the error of a good network, smooth and 3 % of the depth. The last table shows sequences whose
scale has noise and jumps once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.nn.functional import interpolate

from redepth_ros.cli.datasets import Pair, read_pairs
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.models.depth_anything import DepthAnything

SHARED = Path(__file__).parents[2] / "shared" / "data" / "rgbd"
ANCHORS, NOISE = 200, 0.01


def least_squares(disparity: np.ndarray, depth: np.ndarray) -> float:
    """Return the scale of the plain least-squares fit in disparity."""
    slope, _ = np.polyfit(disparity.astype(np.float64), 1.0 / depth.astype(np.float64), 1)
    return 1.0 / slope


def sample(disparity: np.ndarray, depth: np.ndarray, outliers: float, rng: np.random.Generator):
    """Draw pixels: disparity, measured depth, and whether each is no outlier."""
    chosen = rng.choice(len(depth), ANCHORS, replace=False)
    measured = depth[chosen] * (1.0 + NOISE * rng.standard_normal(ANCHORS))
    wrong = rng.permutation(ANCHORS)[: int(outliers * ANCHORS)]
    measured[wrong] = rng.uniform(depth.min(), depth.max(), len(wrong))
    right = np.ones(ANCHORS, bool)
    right[wrong] = False
    return disparity[chosen], measured, right


def try_fits(disparity: np.ndarray, depth: np.ndarray, outliers: float, draws: int) -> dict[str, float]:
    """Return shares of draws within 2 % and 5 % of the fit to all pixels, the 95th percentile, and times."""
    rng, wanted = np.random.default_rng(0), least_squares(disparity, depth)
    errors, told, seconds = [], [], []
    for _ in range(draws):
        x, z, right = sample(disparity, depth, outliers, rng)
        told.append(abs(least_squares(x[right], z[right]) / wanted - 1.0) < 0.02)
        start = time.perf_counter()
        try:
            found = fit_scale(x, z, noise=NOISE).scale.scale
        except AnchorError:
            found = float("inf")
        seconds.append(time.perf_counter() - start)
        errors.append(abs(found / wanted - 1.0))
    array = np.array(errors)
    return {
        "within_2": float((array < 0.02).mean()),
        "within_5": float((array < 0.05).mean()),
        "p95": float(np.quantile(array, 0.95, method="higher")),
        "told_within_2": float(np.mean(told)),
        "refused": float(np.isinf(array).mean()),
        "ms": statistics.median(seconds) * 1e3,
    }


def smooth_error(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Return a smooth random field of standard deviation 1."""
    coarse = torch.randn(1, 1, 6, 8, generator=torch.Generator().manual_seed(seed))
    field = interpolate(coarse, shape, mode="bicubic")[0, 0].numpy()
    return (field - field.mean()) / field.std()


def disparities_of(pair: Pair, model: DepthAnything) -> dict[str, np.ndarray]:
    """Return disparities (H, W) of a pair by their names."""
    found = {"embedded network": model.predict(pair.image()).numpy()}
    network = pair.folder / "predicted_relative_disparity.npz"
    if network.exists():
        found["real network"] = np.load(network)["disparity"]
    depth = pair.depth()
    with np.errstate(divide="ignore", invalid="ignore"):
        near = 1.0 / np.where(np.isfinite(depth), depth, np.nanmedian(depth))
    found["3 % smooth error"] = near * (1.0 + 0.03 * smooth_error(depth.shape, 0)) * 5.0 - 0.2
    return found


def filter_sequence(noise: float, jump: float, seed: int) -> dict[str, float]:
    """Filter 200 frames at 10 Hz whose scale has noise and jumps in the middle."""
    rng = np.random.default_rng(seed)
    truth = np.where(np.arange(200) < 100, 5.0, 5.0 * jump)
    raw = truth * np.exp(noise * rng.standard_normal(200))
    scale_filter = ScaleFilter(measurement_noise=noise)
    published = []
    for frame, scale in enumerate(raw):
        scale_filter.update(0.1 * frame, Scale(scale, 0.08 * scale, (1e-4, 2e-5, 1e-5)))
        assert scale_filter.scale is not None
        published.append(scale_filter.scale.scale)
    steady = np.r_[10:100, 110:199]  # without the start and the jump
    changes = [float(np.std(np.diff(np.log(values))[steady])) for values in (raw, published)]
    off = np.abs(np.log(published[100:]) - np.log(truth[100:])) > 0.5 * abs(np.log(jump))
    lag = 100 if off.all() else int(np.argmin(off))
    return {"raw": changes[0], "published": changes[1], "ratio": changes[1] / changes[0], "lag": lag}


def fit_pairs(console: Console, path: Path, draws: int) -> dict[str, list[dict]]:
    """Print and return the accuracy of fits to the pairs of a data set."""
    model = DepthAnything.load("tiny")
    found: dict[tuple[str, float], list[dict]] = {}
    for pair in read_pairs(path):
        depth = pair.depth()
        valid = np.isfinite(depth)
        for name, disparity in disparities_of(pair, model).items():
            for outliers in (0.1, 0.5):
                one = try_fits(disparity[valid], depth[valid], outliers, draws)
                found.setdefault((name, outliers), []).append({"pair": pair.name, **one})
    columns = ("disparity", "outliers", "within 2 %", "5 %", "95th percentile", "plain fit 2 %", "ms")
    counts = ("pairs with 95 % in 2 %", "in 5 %", "worst pair in 5 %")
    title = f"{ANCHORS} anchors, {draws} draws per pair; the first columns are medians over pairs"
    table = Table(*columns, *counts, title=title)
    for (name, outliers), rows in sorted(found.items()):
        median = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "pair"}
        shares = (median[key] for key in ("within_2", "within_5", "p95", "told_within_2"))
        table.add_row(
            f"{name}, {len(rows)} pairs",
            f"{outliers:.0%}",
            *(f"{share:.1%}" for share in shares),
            f"{median['ms']:.2f}",
            *(str(sum(row[key] >= 0.95 for row in rows)) for key in ("within_2", "within_5")),
            f"{min(row['within_5'] for row in rows):.1%}",
        )
    console.print(table)
    return {f"{name}, {outliers:.0%} outliers": rows for (name, outliers), rows in found.items()}


def filter_sequences(console: Console) -> dict[str, list[dict]]:
    """Print and return the steadiness of filtered sequences."""
    results = {}
    title = "100 sequences of 200 frames at 10 Hz; lag: frames until half of the jump"
    table = Table("noise", "jump", "raw change", "published", "ratio", "lag, median", "95 %", title=title)
    for jump in (1.1, 1.15, 1.3, 2.0):
        rows = results[f"jump of {jump}"] = [filter_sequence(0.05, jump, seed) for seed in range(100)]
        raw, published, ratio = (np.mean([row[key] for row in rows]) for key in ("raw", "published", "ratio"))
        lags = [row["lag"] for row in rows]
        changes = (f"{raw:.2%}", f"{published:.2%}", f"{ratio:.3f}")
        table.add_row(
            "5 %", f"x {jump:g}", *changes, f"{np.median(lags):.0f}", f"{np.percentile(lags, 95):.0f}"
        )
    console.print(table)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--pairs", type=Path, default=SHARED, help="folder with an index.csv")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console, results = Console(), {}
    torch.set_num_threads(1)
    if options.pairs.exists():
        results = fit_pairs(console, options.pairs, options.draws)
    else:
        console.print(f"no {options.pairs}: fits to real pairs are skipped (--pairs names another folder)")
    results |= filter_sequences(console)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
