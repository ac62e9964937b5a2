#!/usr/bin/env python3
"""Scale fit and fusion where one surface holds most of the anchors: an object before a wall, and others.

    ./dev bench wall_scenes [--draws 20] [--json FILE]

Counts the draws in which the object, at 3 m, is off by more than 20 %: by the fitted scale, by the true scale
(the network has an error of 2, 5 or 10 %), and by the fused depth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import FusedDepth, fuse_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_fit import fit_scale

Map = NDArray[np.float32]

NOISE = 0.01
"""Relative standard deviation of the simulated anchors."""

WALLS = [
    (kind, share, tilt, error)
    for kind, shares in (("wall", (0.6, 0.75, 0.85, 0.95)), ("wall and floor", (0.6, 0.8, 0.95)))
    for share in shares
    for tilt in (0, 5, 10, 20)
    for error in (0.02, 0.05, 0.1)
] + [
    (kind, 0.0, 0, error)
    for kind in ("corridor", "ground", "object", "corner")
    for error in (0.02, 0.05, 0.1)
]


def sample_wall(
    kind: str, share: float, tilt: float, error: float, rng: np.random.Generator
) -> tuple[Tensor, Anchors, Map, NDArray[np.bool_]]:
    """Draw a scene of an object at 3 m before a wall at 8 m: disparity, 200 anchors, depth, and the object.

    The disparity has a smooth relative error; the true scale and shift are 6 and 0.4.

    Args:
        kind, share, tilt, error: scene, share of the anchors on the wall, tilt of the wall in degrees, and
            relative error of the disparity; see WALLS.
        rng: source of randomness.
    """
    row, column = np.mgrid[0:60, 0:80]
    x, y = (column - 39.5) / 60.0, (row - 29.5) / 60.0
    depth = 8.0 / (1.0 + np.tan(np.radians(tilt)) * x)
    floor = np.where(y > 0.02, 1.2 / np.maximum(y, 0.02), np.inf)
    ahead = (np.abs(column - 40) < 9) & (np.abs(row - 36) < 11)
    if kind == "corridor":
        sides = np.minimum(1.0 / np.maximum(np.abs(x), 0.02), 1.3 / np.maximum(-y, 0.02))
        depth = np.minimum(np.minimum(floor, sides), 20.0)
    elif kind == "ground":
        depth = np.minimum(floor, 40.0)
    elif kind != "wall":
        depth = np.minimum(floor, depth)
    wall = ~ahead & (floor > depth)
    depth = np.where(ahead, 3.0 + 0.1 * x, depth)
    regions = {
        "corridor": np.ones_like(ahead),
        "ground": ~ahead & (depth < 30.0),
        "object": ahead,
        "corner": (row < 22) & (column < 28),
    }
    if kind in regions:
        index = rng.choice(np.flatnonzero(regions[kind]), 200)
    else:
        on_wall_count = round(share * 200)
        others = ahead if kind == "wall" else ~wall
        on_wall, other = (np.flatnonzero(one) for one in (wall, others))
        index = np.concatenate((rng.choice(on_wall, on_wall_count), rng.choice(other, 200 - on_wall_count)))
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 5)))
    smooth = interpolate(coarse, (60, 80), mode="bicubic")[0, 0].numpy()
    smooth = (smooth - smooth.mean()) / smooth.std()
    disparity = torch.from_numpy((6.0 / depth * (1.0 + error * smooth) - 0.4).astype(np.float32))
    measured = depth.ravel()[index] + 0.02 * rng.standard_normal(200)
    anchors = Anchors(*np.divmod(index, 80), measured, 60, 80)
    return disparity, anchors, depth.astype(np.float32), ahead


def fit_global(disparity: Tensor, anchors: Anchors) -> Scale | None:
    """Fit the global scale; None if the fit refuses the anchors."""
    try:
        minimum = min(30, len(anchors))
        return fit_scale(anchors.sample(disparity).numpy(), anchors.depth, noise=NOISE, minimum=minimum).scale
    except AnchorError:
        return None


def is_wrong(found: Tensor, depth: Map, ahead: NDArray[np.bool_]) -> bool:
    """Return whether the median depth (H, W) of the object is off by more than 20 %, or invalid."""
    return not abs(float(np.nanmedian(found.numpy()[ahead] / depth[ahead])) - 1.0) < 0.2


def is_unwarned(fused: FusedDepth, depth: Map, ahead: NDArray[np.bool_]) -> bool:
    """Return whether a wrong object is also off by more than 2 claimed standard deviations."""
    ratio = (fused.depth.numpy() - depth)[ahead] / fused.stddev.numpy()[ahead]
    return is_wrong(fused.depth, depth, ahead) and not abs(float(np.nanmedian(ratio))) < 2.0


def study_walls(draws: int, console: Console) -> dict[str, dict[str, int]]:
    """Count the draws whose object is off by more than 20 %: by the fit, the true scale, and the fusion."""
    columns = {
        "draws": "draws",
        "fit": "fit",
        "fit_up_to_5_percent": "fit, network error up to 5 %",
        "refused": "fit refused",
        "true_scale": "true scale",
        "fused": "fused",
        "unwarned": "fused, beyond 2 claimed deviations",
    }
    table = Table("scene", *columns.values(), title="draws with the object off by more than 20 %")
    found: dict[str, dict[str, int]] = {}
    for case in WALLS:
        counts = found.setdefault(case[0], dict.fromkeys(columns, 0))
        for seed in range(draws):
            rng = np.random.default_rng([seed, *(int(100 * value) for value in case[1:])])
            disparity, anchors, depth, ahead = sample_wall(*case, rng)
            scale = fit_global(disparity, anchors)
            fused = fuse_depth(disparity, anchors, scale, noise=NOISE)
            wrong = scale is not None and is_wrong(scale.depth(disparity), depth, ahead)
            counts["draws"] += 1
            counts["fit"] += wrong
            counts["fit_up_to_5_percent"] += wrong and case[3] < 0.1
            counts["refused"] += scale is None
            counts["true_scale"] += is_wrong(Scale(6.0, 0.4).depth(disparity), depth, ahead)
            counts["fused"] += is_wrong(fused.depth, depth, ahead)
            counts["unwarned"] += is_unwarned(fused, depth, ahead)
    for name, counts in found.items():
        table.add_row(name, *(str(counts[key]) for key in columns))
    console.print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20, help="draws per scene")
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = study_walls(options.draws, Console(width=150))
    if options.json:
        options.json.write_text(json.dumps(counts, indent=1))


if __name__ == "__main__":
    main()
