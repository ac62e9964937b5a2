"""The command `redepth benchmark`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console

from redepth_ros.cli.benchmark.correctness import check_correctness
from redepth_ros.cli.benchmark.fast_path import measure_fast_path
from redepth_ros.cli.benchmark.findings import Deadline, Findings, describe_machine
from redepth_ros.cli.benchmark.keyframe import measure_keyframes
from redepth_ros.cli.benchmark.recommendation import Wish, recommend, write_parameters
from redepth_ros.cli.benchmark.report import print_findings
from redepth_ros.cli.benchmark.runtimes import temporary_cache
from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.models.devices import pick_device
from redepth_ros.models.engine import Engine
from redepth_ros.nodes.settings import DepthSettings, ServerSettings

__all__ = ["benchmark"]

RESULTS, PARAMETERS = "benchmark.json", "parameters.yaml"
SHARES = {"correctness": 0.2, "fast path": 0.4, "keyframe": 0.4}
"""Shares of the time; a part may use what those before it left."""
MAX_MINUTES, MAX_RATE, MAX_PERIOD = 1440.0, 1000.0, 86_400.0
DEFAULT_MODEL, DEFAULT_PRIOR = DepthSettings.model, ServerSettings.prior
"""Those of the nodes, which have the sizes that are timed by default."""


def benchmark(options: argparse.Namespace) -> None:
    """Check and time this machine; print tables, and write benchmark.json and parameters.yaml.

    Raises:
        ConfigError: an option has an invalid value, or the folder has results.
        ModelError: a network can't be loaded.
        RedepthError: a check failed; all results were written.
        KeyboardInterrupt: by Ctrl-C; the results so far were written.
    """
    began, console = time.monotonic(), Console()
    _check(options)
    device = pick_device(options.device)
    engine = Engine.load(options.model or "tiny", options.prior or "tiny", device=options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    findings = Findings(describe_machine(device), options.minutes)
    parts: dict[str, Callable[[Deadline], None]] = {
        "correctness": lambda deadline: check_correctness(device, deadline, findings),
        "fast path": lambda deadline: measure_fast_path(options.model, device, deadline, findings),
        "keyframe": lambda deadline: measure_keyframes(
            engine, bool(options.model), bool(options.prior), deadline, findings
        ),
    }
    end = began
    try:
        for name, measure in parts.items():
            end += 60.0 * options.minutes * SHARES[name]
            with console.status(f"{name} ..."), temporary_cache():
                measure(Deadline(end))
    except KeyboardInterrupt:
        findings.interrupted = True
        raise
    finally:
        findings.seconds = time.monotonic() - began
        _finish(console, options, findings)
    if failed := [check.name for check in findings.checks if check.outcome == "failed"]:
        raise RedepthError(f"failed: {', '.join(failed)}; see {options.out / RESULTS}")


def _check(options: argparse.Namespace) -> None:
    """Raise ConfigError for options that are out of their range, or a folder that has results."""
    ranges = {
        "--minutes": (options.minutes, MAX_MINUTES),
        "--rate": (options.rate, MAX_RATE),
        "--keyframe-period": (options.keyframe_period, MAX_PERIOD),
    }
    for name, (value, high) in ranges.items():
        if not 0.0 < value <= high:
            raise ConfigError(f"{name} is {value:g}; it must be above 0 and at most {high:g}")
    for name in (RESULTS, PARAMETERS):
        if (options.out / name).exists():
            raise ConfigError(
                f"{str(options.out)!r} has results of an earlier call: name another folder by --out"
            )


def _finish(console: Console, options: argparse.Namespace, findings: Findings) -> None:
    """Recommend parameters, print everything, and write the files."""
    failed = {check.subject for check in findings.checks if check.outcome == "failed"}
    network = options.model or "DA-V2 Small"
    rows = [
        row
        for row in findings.fast
        if row.network == network and not failed.intersection((row.precision, row.runtime))
    ]
    if rows:
        wish = Wish(
            options.rate,
            options.keyframe_period,
            options.model or DEFAULT_MODEL,
            options.prior or DEFAULT_PRIOR,
        )
        keyframe = next((row for row in findings.keyframes if row.wanted and row.preset == "default"), None)
        no_keyframe = "; ".join(findings.notes) or "no keyframe was timed"
        advice = recommend(wish, findings.machine, rows, keyframe, no_keyframe)
        findings.recommendation = asdict(advice)
        title = (
            f"Written by `redepth benchmark` for {options.rate:g} Hz and one keyframe in "
            f"{options.keyframe_period:g} s. Both nodes were timed alone; together they share the machine."
        )
        write_parameters(options.out / PARAMETERS, advice, title)
    findings.write(options.out / RESULTS)
    print_findings(console, findings)
    for message in findings.recommendation.get("messages", ()):
        console.print(f"Recommended: {message}.", highlight=False)
    written = [name for name in (RESULTS, PARAMETERS) if (options.out / name).exists()]
    console.print(f"Wrote {' and '.join(written)} to {options.out}", highlight=False)
