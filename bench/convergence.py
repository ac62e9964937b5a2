#!/usr/bin/env python3
"""Ensemble members that stop when their depth has converged, compared with members that all stop at one step.

    ./dev bench convergence [--scenes 24] [--json FILE]

Refines the scenes of bench/refinement_tuning by the preset `default`, without the checks of the result, and
keeps the depth of each member in each step. A member has converged when the mean of its last 10 depths
differs from that of the 10 before by less than a threshold (mean of |ln|); it then leaves the batch with the
mean of the last 40 % of its depths, as in `default`. Control: every member stops at the mean of these steps,
on the same trajectories. Scenes whose fast depth is kept are left out. Intervals are paired bootstrap
intervals over scenes, as in bench/refinement_gain.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.domains import draw, load_networks, measure
from bench.refinement_gain import DEFAULT, UNCHECKED, difference
from bench.refinement_tuning import TUNING_ATLAS, TUNING_SEED
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine.objective import Objective
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.refine.run import Refiner

SETTINGS = dataclasses.replace(DEFAULT, **{**UNCHECKED, "min_initial_loss": DEFAULT.min_initial_loss})
WINDOW = 10
FIRST_STEP = 30
"""Before it no member counts as converged."""
THRESHOLDS = (0.001, 0.0015, 0.002, 0.003, 0.004)
MEASURES = {"abs_rel": "AbsRel", "normal_angle": "normal angle"}

Depths = NDArray[np.float32]


@dataclasses.dataclass
class Trajectory:
    """The depths of the members on one scene."""

    depths: Depths
    """(steps, M, h, w) before each step."""
    truth: torch.Tensor
    """(h, w)."""
    fast: dict[str, float]
    """Errors before refinement, see `measure`."""

    def stop(self, ends: list[int]) -> dict[str, float]:
        """Return the errors of the mean over members, each stopped at its index of a step."""
        averages = [self.depths[int(0.6 * end) : end + 1, member].mean(0) for member, end in enumerate(ends)]
        depth = np.mean(averages, axis=0)
        return measure(DEFAULT.depth_scale / depth - DEFAULT.disparity_offset, self.truth, None)

    def converged(self, threshold: float) -> list[int]:
        """Return the index of the step at which each member has converged, or of its last one."""
        logs, last = np.log(self.depths), len(self.depths) - 1
        ends = []
        for member in range(self.depths.shape[1]):
            end = FIRST_STEP
            while end < last:
                recent, before = (
                    logs[end - shift - WINDOW + 1 : end - shift + 1, member].mean(0) for shift in (0, WINDOW)
                )
                if np.abs(recent - before).mean() < threshold:
                    break
                end += 1
            ends.append(end)
        return ends


def refine(seed: int) -> Trajectory | None:
    """Refine a scene; None if its fast depth is kept."""
    network, prior, _ = load_networks("reliefs", "tiny")
    rendering, camera = draw("reliefs", seed, TUNING_ATLAS)
    depths, do_step = [], Objective.step

    def record(*arguments):
        depth, losses = do_step(*arguments)
        depths.append(depth.numpy().copy())
        return depth, losses

    pixels = network.preprocess(to_uint8(rendering.image.permute(1, 2, 0).numpy()))
    run = Refiner(network, prior, SETTINGS).start(pixels, camera=camera)
    with patch.object(Objective, "step", record):
        for _ in run.steps():
            pass
    result = run.result()
    if result.outcome is Outcome.KEPT_FAST:
        return None
    return Trajectory(np.stack(depths), rendering.depth, measure(result.fast, rendering.depth, camera))


def compare(trajectories: list[Trajectory], console: Console) -> dict[str, dict]:
    """Print and return the steps and the errors by threshold."""
    steps = len(trajectories[0].depths)
    table = Table(
        "threshold",
        "steps: mean, range",
        *(f"{name}, change" for name in MEASURES.values()),
        *(f"{name}: converged - all steps" for name in MEASURES.values()),
        *(f"{name}: converged - one step" for name in MEASURES.values()),
        title=f"{len(trajectories)} tuning scenes, {steps} steps",
    )
    everything = [one.stop([steps - 1] * one.depths.shape[1]) for one in trajectories]
    found = {}
    for threshold in THRESHOLDS:
        ends = [one.converged(threshold) for one in trajectories]
        mean = float(np.mean(ends))
        control = [one.stop([round(mean)] * one.depths.shape[1]) for one in trajectories]
        errors = [one.stop(end) for one, end in zip(trajectories, ends, strict=True)]
        row: dict = {"steps": 1.0 + mean, "range": (1 + int(np.min(ends)), 1 + int(np.max(ends)))}
        for key in MEASURES:
            fast, full, after, same = (
                np.array([one[key] for one in part])
                for part in ([one.fast for one in trajectories], everything, errors, control)
            )
            row[f"{key} change"] = float(after.mean() / fast.mean() - 1.0)
            row[f"{key} to all"] = difference(fast, full, after)
            row[f"{key} to control"] = difference(fast, same, after)
        found[str(threshold)] = row
        cells = [f"{row[f'{key} change']:+.1%}" for key in MEASURES]
        for part in ("all", "control"):
            values = (row[f"{key} to {part}"] for key in MEASURES)
            cells += [f"{value:+.1%} [{low:+.1%}, {high:+.1%}]" for value, low, high in values]
        table.add_row(f"{threshold:g}", f"{row['steps']:.0f}, {row['range'][0]} to {row['range'][1]}", *cells)
    console.print(table)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    seeds = range(TUNING_SEED, TUNING_SEED + options.scenes)
    with get_context("spawn").Pool() as pool:
        refined = list(track(pool.imap(refine, seeds), "refining", total=options.scenes))
    found = compare([one for one in refined if one is not None], Console(width=170))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
