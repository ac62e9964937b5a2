"""Tables of `redepth benchmark` in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from redepth_ros.cli.benchmark.fast_path import IMAGE_SIZE
from redepth_ros.cli.benchmark.findings import Findings

__all__ = ["print_findings"]


def print_findings(console: Console, findings: Findings) -> None:
    """Print what was measured, and what was not."""
    for table in (_checks(findings), _fast(findings), _keyframes(findings), _missing(findings)):
        if table.row_count:
            console.print(table)
    for note in findings.notes:
        console.print(f"Note: {note}.", highlight=False)


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, box=None, pad_edge=False, title_justify="left")


def _checks(findings: Findings) -> Table:
    table = _table("Correctness, by the embedded networks", "check", "", "differences", "")
    for check in findings.checks:
        figures = "\n".join(f"{name} {value:.2g}" for name, value in check.figures.items())
        table.add_row(check.name, check.outcome, figures, check.note)
    return table


def _fast(findings: Findings) -> Table:
    height, width = IMAGE_SIZE
    title = f"Fast depth of an image of {width} x {height}: medians of rounds in turns"
    table = _table(title, "network", "input", "runtime", "precision", "Hz", "ms", "MiB", "rounds")
    for row in findings.fast:
        table.add_row(
            row.network,
            f"{row.width} x {row.height}",
            row.runtime,
            row.precision,
            f"{row.hz:.3g}",
            f"{row.seconds * 1e3:.3g}",
            _mib(row.memory_mib),
            str(row.rounds),
        )
    return table


def _keyframes(findings: Findings) -> Table:
    title = "Keyframe: seconds extrapolated (estimate) from the steps that were timed"
    table = _table(title, "networks, preset", "estimate", "s a step", "MiB", "evaluations", "parts of a step")
    for row in findings.keyframes:
        total = sum(row.parts.values())
        parts = [f"{name} {value / total:.0%}" for name, value in row.parts.items()]
        evaluations = [f"{name} {count}" for name, count in row.evaluations.items()]
        plan = f"{row.preset}: {row.members} x {row.steps} steps, {row.lights} lights"
        table.add_row(
            "\n".join([row.networks, plan, *row.notes]),
            f"about {row.estimated_seconds:.3g} s",
            f"{row.step_seconds:.3g}",
            _mib(row.memory_mib),
            "\n".join(evaluations),
            "\n".join(parts),
        )
    return table


def _missing(findings: Findings) -> Table:
    table = _table("Not measured", "", "reason")
    for one in findings.not_measured:
        table.add_row(one.name, one.reason)
    return table


def _mib(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
