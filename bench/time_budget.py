#!/usr/bin/env python3
"""Error of a keyframe after a time budget: the planned schedule, compared with one that is cut off.

    ./dev bench time_budget [--scenes 24] [--budgets 1 2 4] [--clock wall] [--tuning] [--json FILE]
    ./dev bench time_budget --clock evaluations --budgets 120 240 480

Both refine the reliefs of bench/refinement_gain (bench/relief_depth, embedded prior) with the preset
`default`. "cut off" runs the schedule of 160 steps and is stopped from outside when the time is over, or, as
soon as the result will be checked by the prior, so much earlier that the check is made in time as well.
Controls: the fast depth, and the preset without a budget. Changes are those of the means over scenes, with
paired bootstrap intervals over scenes; "planned - cut off" is the difference of both changes. --tuning takes
the scenes of bench/refinement_tuning.

Seconds are CPU seconds of one thread, from the start of a run to its result, because other processes
on the machine would take time from a budget in wall time; --clock wall takes wall time. --clock
evaluations counts the images that pass the prior, in steps and in checks. Larger priors take nearly all of
the time, and the table is the same on every machine.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections import Counter
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor

from bench.domains import TEST_ATLAS, TEST_SEED, draw, load_networks, measure
from bench.refinement_gain import DEFAULT, change, difference
from bench.refinement_tuning import TUNING_ATLAS, TUNING_SEED
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine import prior_check, schedule
from redepth_ros.core.refine.prior_check import MIN_STEPS
from redepth_ros.core.refine.run import Refiner
from redepth_ros.models.diffusion import DiffusionPrior

CLOCKS = {"cpu": time.process_time, "wall": time.monotonic, "evaluations": lambda: float(evaluations)}

evaluations = 0
"""Images that have passed the prior in this process."""


class CountedPrior(DiffusionPrior):
    """Counts its evaluations."""

    def predict_noise(self, noised: Tensor, *arguments: Any) -> Tensor:
        global evaluations
        evaluations += len(noised)
        return super().predict_noise(noised, *arguments)


def refine(job: tuple[str, float, int, int, str]) -> dict:
    """Refine one scene by a method within a budget: errors, and the time by a clock."""
    method, budget, seed, texture_seed, clock_name = job
    network, prior, _ = load_networks("reliefs", "tiny")
    prior.__class__ = CountedPrior
    clock, (rendering, camera) = CLOCKS[clock_name], draw("reliefs", seed, texture_seed)
    schedule.time = prior_check.time = SimpleNamespace(monotonic=clock)
    settings = dataclasses.replace(DEFAULT, time_budget=budget if method == "planned" else 0.0)
    pixels = network.preprocess(to_uint8(rendering.image.permute(1, 2, 0).numpy()))
    start = clock()
    run = Refiner(network, prior, settings).start(pixels, camera=camera)
    for step in run.steps():
        check = run.check_seconds if step.step >= MIN_STEPS else 0.0
        if method == "cut off" and clock() + check >= start + budget:
            run.request_stop()
    result = run.result()
    return {
        "method": method,
        "budget": budget,
        "scene": seed,
        "seconds": clock() - start,
        "outcome": result.outcome.name,
        "steps": len(result.history),
        "plan": dataclasses.asdict(result.plan),
        "errors": measure(result.refined, rendering.depth, camera),
        "fast": measure(result.fast, rendering.depth, camera),
    }


def interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:+.1%} [{value[1]:+.1%}, {value[2]:+.1%}]"


def print_table(console: Console, found: list[dict], clock: str) -> None:
    """Print errors and seconds of both methods by budget."""
    scenes = sorted({one["scene"] for one in found})
    table = Table(
        f"budget, {clock}", "", "AbsRel", "planned - cut off", "normal angle", "worse", "kept fast",
        "used / budget: median, largest", "steps x members x lights",
        title=f"{len(scenes)} reliefs",
    )  # fmt: skip
    by_key = {(one["method"], one["budget"], one["scene"]): one for one in found}
    for method, budget in dict.fromkeys((one["method"], one["budget"]) for one in found):
        runs = [by_key[method, budget, seed] for seed in scenes]
        before, after = (
            {key: np.array([run[when][key] for run in runs]) for key in ("abs_rel", "normal_angle")}
            for when in ("fast", "errors")
        )
        gain = ""
        if method == "planned":
            cut = np.array([by_key["cut off", budget, seed]["errors"]["abs_rel"] for seed in scenes])
            gain = interval(difference(before["abs_rel"], cut, after["abs_rel"]))
        seconds = np.array([run["seconds"] for run in runs])
        used = seconds / (budget if budget < math.inf else 1.0)
        plans = Counter(
            f"{run['plan']['ensemble_size']} x {run['plan']['lights_per_step']}"
            for run in runs
            if run["outcome"] != "KEPT_FAST"
        )
        steps = np.median([run["steps"] for run in runs])
        table.add_row(
            f"{budget:g}",
            method,
            interval(change(before["abs_rel"], after["abs_rel"])),
            gain,
            interval(change(before["normal_angle"], after["normal_angle"])),
            f"{np.mean(after['abs_rel'] > 1.02 * before['abs_rel']):.0%}",
            f"{sum(run['outcome'] == 'KEPT_FAST' for run in runs)}",
            f"{np.median(used):.2f}, {used.max():.2f}",
            f"{steps:.0f} x " + ", ".join(f"{plan} ({count})" for plan, count in plans.most_common(2)),
        )
    console.print(table)
    fast = np.mean([one["fast"]["abs_rel"] for one in found])
    console.print(f"fast depth: AbsRel {fast:.4f}; the row of an infinite budget gives the time itself")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--budgets", type=float, nargs="+", default=[1.0, 2.0, 4.0])
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="cpu")
    parser.add_argument("--tuning", action="store_true", help="refine other scenes than those of the tables")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    methods = [(method, budget) for budget in options.budgets for method in ("cut off", "planned")]
    methods.append(("unlimited", math.inf))
    first, textures = (TUNING_SEED, TUNING_ATLAS) if options.tuning else (TEST_SEED, TEST_ATLAS)
    jobs = [
        (method, budget, first + number, textures, options.clock)
        for number in range(options.scenes)
        for method, budget in methods
    ]
    with get_context("spawn").Pool() as pool, Progress() as progress:
        found = list(progress.track(pool.imap(refine, jobs), total=len(jobs), description="refining"))
    print_table(Console(width=140), found, options.clock)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
