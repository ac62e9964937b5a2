#!/usr/bin/env python3
"""Other settings of the refinement and of the controls of bench/refinement_gain, on other scenes.

    ./dev bench refinement_tuning [--scenes 64] [--only TEXT] [--json FILE]

Tries learning rates of the refinement and of each control, and steps, lights, noise levels and ensemble
sizes of the refinement. Prints the change from the fast depth and its difference to that of the preset
`default`, with a paired bootstrap interval over scenes. bench/refinement_gain uses the best settings.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.refinement_gain import DEFAULT, UNCHECKED, VARIANTS, Job, difference, run_jobs

TUNING_SEED, TUNING_ATLAS = 40_000_000, 2
UNCHANGED = ("refined", {"embedding_learning_rate": DEFAULT.embedding_learning_rate})
TRIED: list[tuple[str, dict[str, float]]] = [
    *((name, {"embedding_learning_rate": rate}) for name in VARIANTS for rate in (0.01, 0.025, 0.05, 0.1)),
    ("refined", {"steps": 80}),
    ("refined", {"steps": 80, "embedding_learning_rate": 0.2}),
    ("refined", {"steps": 80, "embedding_learning_rate": 0.2, "ensemble_size": 1, "lights_per_step": 6}),
    ("refined", {"ensemble_size": 1}),
    ("refined", {"steps": 120, "embedding_learning_rate": 0.15, "lights_per_step": 2}),
    ("refined", {"steps": 120, "lights_per_step": 4}),
    ("refined", {"steps": 120, "ensemble_size": 4, "lights_per_step": 2}),
    ("refined", {"mirror_augmentation": False}),
    ("refined", {"t_min": 0.65, "t_anneal": 0.0}),
    ("refined", UNCHECKED),
]
"""The variant and its changes."""


def text_of(name: str, changes: dict[str, float]) -> str:
    """Return the changes of a variant in words."""
    return f"{name}: " + ", ".join(f"{key} {value:g}" for key, value in changes.items())


def print_table(console: Console, found: dict[str, list[dict]], scenes: int) -> None:
    """Print errors by settings, with the number of re-lit images that the prior sees."""
    title = (
        f"{scenes} tuning scenes: error, change from the fast depth, difference to the change by `default`"
    )
    table = Table("", "re-lit images", "AbsRel", "normal angle", "worse", title=title)
    default = found[text_of(*UNCHANGED)]
    for name, changes in TRIED:
        part = found.get(text_of(name, changes))
        if part is None:
            continue
        settings, cells = dataclasses.replace(VARIANTS[name], **changes), []
        for key in ("abs_rel", "normal_angle"):
            fast = np.array([one["fast"][key] for one in part])
            usual, after = (np.array([one["errors"][key] for one in runs]) for runs in (default, part))
            value, low, high = difference(fast, usual, after)
            gain = after.mean() / fast.mean() - 1.0
            cells.append(f"{after.mean():.4f} ({gain:+.1%})\n{value:+.1%} [{low:+.1%}, {high:+.1%}]")
        worse = np.mean([one["errors"]["abs_rel"] > 1.02 * one["fast"]["abs_rel"] for one in part])
        images = settings.steps * settings.ensemble_size * settings.lights_per_step
        table.add_row(
            text_of(name, changes), str(images if settings.sds_weight else 0), *cells, f"{worse:.0%}"
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=64)
    parser.add_argument("--prior", default="tiny")
    parser.add_argument(
        "--only", default="", help="settings whose description contains this text, beside `default`"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    tried = [one for one in TRIED if options.only in text_of(*one) or one == UNCHANGED]
    jobs = [
        Job(
            name,
            dataclasses.replace(VARIANTS[name], **changes),
            TUNING_SEED + number,
            TUNING_ATLAS,
            options.prior,
        )
        for name, changes in tried
        for number in range(options.scenes)
    ]
    runs = run_jobs(jobs, "tuning")
    found = {
        text_of(*one): runs[number * options.scenes : (number + 1) * options.scenes]
        for number, one in enumerate(tried)
    }
    print_table(Console(), found, options.scenes)
    if options.json:
        kept = ("seconds", "outcome", "errors", "fast")
        rows = {text: [{key: one[key] for key in kept} for one in part] for text, part in found.items()}
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
