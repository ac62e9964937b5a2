"""`redepth evaluate`: errors of all kinds of depth on images with measured depth, beside controls."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from redepth_ros.cli.anchor_patterns import AnchorSettings
from redepth_ros.cli.datasets import Pair
from redepth_ros.cli.evaluate_task import METHODS, EvaluateTask, Sample, read_sample
from redepth_ros.cli.progress import progress_bar
from redepth_ros.cli.report import (
    MEASURES,
    Mean,
    Result,
    Summary,
    print_summary,
    read_results,
    write_report,
    write_results,
    write_summary,
)
from redepth_ros.cli.workers.networks import EngineFacts, package_versions
from redepth_ros.cli.workers.pool import Pool
from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.core.metrics import bootstrap_mean
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.exports.files import write_bytes, write_json, writing

__all__ = ["evaluate"]


def evaluate(
    pairs: list[Pair],
    pool: Pool,
    settings: RefineSettings,
    out: Path,
    *,
    anchors: AnchorSettings | None = None,
    captioner: str = "",
    input_size: int = 0,
    overwrite: bool = False,
) -> Summary:
    """Evaluate pairs and write the results to a folder.

    results.jsonl gets one line per image. A second call with the same settings skips the images that
    it has. Images that can't be used are skipped. At the end results.csv, summary.csv, summary.json
    and report.html are written.

    Args:
        pairs: see `datasets.read_pairs`.
        pool: has the networks.
        settings: of the refinement; their seed also draws the anchors.
        out: folder; made if missing.
        anchors: pixels that are taken as measured; None takes the defaults.
        captioner: model that writes the prompts; empty for none.
        input_size: longer side of the networks' input, pixels; 0 takes the network's default.
        overwrite: whether results of other settings are replaced.

    Returns:
        By method and measure: mean over the images that the method gives a depth of.

    Raises:
        ConfigError: the folder has results of other settings, or no image can be used.
    """
    console, anchors, facts = Console(), anchors or AnchorSettings(), pool.facts
    configuration = {
        "model": facts.model,
        "model_hash": facts.model_hash,
        "prior": facts.prior,
        "prior_hash": facts.prior_hash,
        "dtype": facts.dtype,
        "captioner": captioner,
        "anchors": dataclasses.asdict(anchors),
        "input_size": input_size or facts.longer_side,
        "settings": dataclasses.asdict(settings),
    }
    known = read_results(out, configuration, overwrite)
    make_task = partial(EvaluateTask, settings=settings, anchors=anchors, input_size=input_size)
    results = _evaluate_all(pairs, pool, make_task, known, out, console)
    complete = [result for result in results if "error" not in result]
    _print_exceptions(console, results)
    if not complete:
        raise ConfigError(f"none of the {len(results)} images can be evaluated; the reasons are above")
    summary = _summarize(complete)
    write_json(out / "summary.json", _contents(facts, configuration, results, summary))
    methods, notes = _explain(anchors)
    if common := _compare_common(complete, summary):
        notes = [common, *notes]
    write_results(out / "results.csv", complete)
    write_summary(out / "summary.csv", summary)
    title = f"{facts.model} with {facts.prior}: {len(complete)} images"
    write_report(out, title, methods, notes, complete, summary)
    print_summary(console, len(complete), summary)
    console.print(" ".join([*notes, *(f"{name}: {text}." for name, text in methods.items())]))
    console.print(f"written to {out}: report.html, results.csv, summary.csv, summary.json")
    return summary


def _contents(
    facts: EngineFacts, configuration: dict[str, Any], results: list[Result], summary: Summary
) -> dict[str, Any]:
    """Return the content of summary.json."""
    skipped = {result["name"]: result["error"] for result in results if "error" in result}
    return {
        "versions": package_versions(),
        "device": facts.device,
        "configuration": configuration,
        "images": len(results) - len(skipped),
        "skipped": skipped,
        "outcomes": Counter(result["outcome"] for result in results if "error" not in result),
        "summary": {
            method: {key: dataclasses.asdict(mean) for key, mean in means.items()}
            for method, means in summary.items()
        },
    }


def _compare_common(results: list[Result], summary: Summary) -> str:
    """Compare the methods over the images that all of them have; empty if these are all images, or none."""
    common = [result["errors"] for result in results if set(summary) <= set(result["errors"])]
    if len(common) in (0, len(results)):
        return ""
    means = [f"{method} {np.mean([one[method]['abs_rel'] for one in common]):.3f}" for method in summary]
    return f"AbsRel over the images that all methods have ({len(common)}): {', '.join(means)}."


def _explain(anchors: AnchorSettings) -> tuple[dict[str, str], list[str]]:
    """Return what each method is, and what the anchors are, for the report."""
    if not anchors.count:
        return {name: METHODS[name] for name in ("fast", "refined")}, []
    return METHODS, [f"{anchors.explanation} Errors are those of all other pixels."]


def _print_exceptions(console: Console, results: list[Result]) -> None:
    for result in results:
        if "error" in result:
            console.print(f"{result['name']} is skipped: {result['error']}")
            continue
        for method, reason in result["refused"].items():
            console.print(f"{result['name']} has no {method}: {reason}")


def _evaluate_all(
    pairs: list[Pair],
    pool: Pool,
    make_task: Callable[[Sample], EvaluateTask],
    known: dict[str, Result],
    out: Path,
    console: Console,
) -> list[Result]:
    """Evaluate the pairs that are not known, and write a line and a figure for each."""
    folders = {pair.name: str(pair.folder) for pair in pairs}
    results: dict[str, Result] = {}
    journal = out / "results.jsonl"
    with progress_bar(console) as progress, journal.open("a") as stream:
        bar = progress.add_task("images", total=len(pairs), note="")

        def finish(result: Result) -> None:
            results[result["name"]] = result
            progress.update(bar, completed=len(results), note=f"{len(results)} of {len(pairs)}")

        def tasks() -> Iterator[EvaluateTask]:
            for pair in pairs:
                if known.get(pair.name, {}).get("folder") == folders[pair.name]:
                    finish(known[pair.name])
                    continue
                try:
                    sample = read_sample(pair)
                except RedepthError as error:  # the file may be repaired before the next call
                    finish({"name": pair.name, "error": str(error)})
                else:
                    yield make_task(sample)

        for done in pool.map(tasks()):
            if done.error:
                finish({"name": done.name, "error": done.error})
                continue
            sheet = f"{re.sub(r'[^A-Za-z0-9._-]', '_', done.name)}.png"
            write_bytes(out / "sheets" / sheet, done.sheet)
            result = {"name": done.name, "sheet": sheet, **done.result, "folder": folders[done.name]}
            with writing(journal):
                stream.write(json.dumps(result) + "\n")
                stream.flush()
            finish(result)
    return [results[pair.name] for pair in pairs]


def _summarize(results: list[Result]) -> Summary:
    """Average each method over the images that it has; their numbers may differ."""
    tried = {method for result in results for method in (*result["errors"], *result["refused"])}
    summary: Summary = {method: {} for method in METHODS if method in tried}
    for method, means in summary.items():
        found = [result["errors"][method] for result in results if method in result["errors"]]
        for key in MEASURES:
            values = np.array([errors[key] for errors in found], float)
            images = int(np.isfinite(values).sum())
            if images:
                mean, low, high = bootstrap_mean(values)
                means[key] = Mean(mean, (low, high) if images > 1 else None, images)
    return summary
