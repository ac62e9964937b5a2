"""What a call of `redepth process` leaves behind besides the formats: tables, a report, a summary."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
from typing import TYPE_CHECKING, Any

from rich.console import Console

from redepth_ros import __version__
from redepth_ros.cli.workers.networks import EngineFacts, package_versions
from redepth_ros.core.errors import ImageError
from redepth_ros.exports.frames import FrameRecord
from redepth_ros.models.hub import network_hash

if TYPE_CHECKING:
    from redepth_ros.cli.process.pipeline import Summary
    from redepth_ros.cli.process.work import Work
    from redepth_ros.models.depth_anything import DepthAnything

__all__ = ["fingerprint", "make_report", "print_summary", "raise_failures"]


def fingerprint(options: argparse.Namespace, formats: tuple[str, ...], work: Work) -> dict[str, Any]:
    """Return everything that the results depend on."""
    left_out = {"run", "out", "plan", "command", "overwrite", "workers", "ray", "device", "input", "format"}
    named = {key: str(value) for key, value in vars(options).items() if key not in left_out}
    refine = json.dumps(dataclasses.asdict(work.refine_settings)) if work.refine_settings else ""
    return {
        **named,
        "input": [str(path.absolute()) for path in options.input],
        "format": list(formats),
        "refine_settings": hashlib.sha1(refine.encode()).hexdigest() if refine else "",
        "version": __version__,
    }


def print_summary(
    console: Console, records: list[FrameRecord], summary: Summary, out: Any, seconds: float
) -> None:
    """Print what was done, and the warnings with their numbers."""
    with_depth = sum(not one.failure for one in records)
    refined = sum(summary.outcomes.values())
    rate = summary.frames / seconds if seconds else 0.0
    console.print(
        f"{summary.frames} frames in {seconds:.1f} s ({rate:.3g} per second), {refined} keyframes refined; "
        f"{with_depth} frames in {out}"
    )
    for text, number in _count_warnings(records):
        console.print(f"{number} frames: {text}", style="yellow")


def raise_failures(records: list[FrameRecord], summary: Summary) -> None:
    """Raise what went wrong.

    Raises:
        ExportError: nothing more could be written.
        KeyboardInterrupt: after Ctrl-C.
        ImageError: frames or keyframes have no depth, or the recording ended early.
    """
    if summary.error is not None:
        raise summary.error
    if summary.interrupted:
        raise KeyboardInterrupt
    failures = [one for one in records if one.failure]
    failed = [one for one in records if one.outcome == "failed"]
    if failures or failed or summary.ended_early:
        reasons = [f"{one.name}: {one.failure}" for one in failures[:3]]
        reasons += [f"{one.name}: {one.message}" for one in failed[:3]]
        reasons += [summary.ended_early] if summary.ended_early else []
        raise ImageError(
            f"{len(failures)} frames without depth, {len(failed)} keyframes without refined depth: "
            + "; ".join(reasons)
        )


def _count_warnings(records: list[FrameRecord]) -> list[tuple[str, int]]:
    """Return the first words of the warnings with their numbers, most frequent first."""
    counts: dict[str, list[str]] = {}
    for record in records:
        for text in record.warnings:
            counts.setdefault(text.split(":")[0], []).append(text)
    ordered = sorted(counts.values(), key=len, reverse=True)
    return [(texts[0], len(texts)) for texts in ordered[:8]]


def make_report(
    options: argparse.Namespace,
    records: list[FrameRecord],
    summary: Summary,
    network: DepthAnything,
    facts: EngineFacts | None,
    work: Work,
    seconds: float,
) -> dict[str, Any]:
    """Return what the results were made with and what came out."""
    counts: dict[str, int] = {}
    for record in records:
        if record.outcome:
            counts[record.outcome] = counts.get(record.outcome, 0) + 1
    return {
        "versions": package_versions(),
        "model": network.name,
        "model_hash": network_hash(network.network),
        "prior": facts.prior if facts else "",
        "prior_hash": facts.prior_hash if facts else "",
        "device": str(network.device),
        "dtype": str(network.dtype),
        "input_size": options.input_size or network.longer_side,
        "options": {key: str(value) for key, value in vars(options).items() if key != "run"},
        "depth_settings": dataclasses.asdict(work.settings),
        "refine_settings": dataclasses.asdict(work.refine_settings) if work.refine_settings else None,
        "frames": len(records),
        "failures": {record.name: record.failure for record in records if record.failure},
        "outcomes": counts,
        "ended_early": summary.ended_early,
        "seconds": round(seconds, 3),
        "cpu_seconds": {name: round(value, 3) for name, value in summary.cpu_seconds.items()},
    }
