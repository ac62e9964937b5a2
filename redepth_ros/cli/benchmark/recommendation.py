"""Parameters for a wanted rate of the fast depth and period of the keyframes, as a parameter file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

from redepth_ros.cli.benchmark.findings import FastRow, KeyframeRow
from redepth_ros.core.refine.prior_check import MIN_STEPS

__all__ = ["Advice", "Parameter", "Wish", "recommend", "write_parameters"]

MODEL_SHARE = 0.8
"""Share of a frame's time that the network may take; camera, conversion and middleware take the rest."""
BUDGET_SHARE = 0.9
"""Share of the period of the keyframes that a refinement may take."""
AGE_FACTOR = 1.5
"""Largest age of a result, in time budgets: the image waits for transport and scheduling."""


@dataclass(frozen=True)
class Wish:
    """What the user wants of the machine."""

    rate: float
    """Hz of the fast depth."""
    keyframe_period: float
    """Seconds from keyframe to keyframe."""
    model: str
    """Value of the parameter `model`."""
    prior: str
    """Value of the parameter `prior`."""


@dataclass(frozen=True)
class Parameter:
    """A recommended value."""

    name: str
    value: Any
    reason: str


@dataclass(frozen=True)
class Advice:
    """Parameters of both nodes."""

    reached: bool
    """Whether rate and period are reached."""
    messages: tuple[str, ...]
    redepth_node: tuple[Parameter, ...]
    refine_server: tuple[Parameter, ...]
    """Empty if no keyframe can be refined here."""


def recommend(
    wish: Wish,
    machine: Mapping[str, Any],
    rows: Sequence[FastRow],
    keyframe: KeyframeRow | None,
    no_keyframe: str,
) -> Advice:
    """Return the parameters that come nearest to a wish.

    Args:
        wish: of the user.
        machine: see `describe_machine`.
        rows: of the wanted model, at least one.
        keyframe: of the wanted networks, by the preset `default`; None if it was not measured.
        no_keyframe: why not.
    """
    row, rate_reached, rate_message = _choose_row(rows, wish.rate)
    same_size = (one for one in rows if one.input_size == row.input_size)
    times = ", ".join(f"{one.runtime} {one.precision} {one.seconds * 1e3:.3g} ms" for one in same_size)
    common = (
        Parameter("model", wish.model, "the model that was timed"),
        Parameter("device", machine["device"], "the device that was timed"),
    )
    node: tuple[Parameter, ...] = (
        *common,
        Parameter("input_size", row.input_size, rate_message),
        Parameter("runtime", row.runtime, "with this precision it is the fastest that was timed"),
        Parameter("precision", row.precision, f"the fastest at this input size: {times}"),
    )
    if machine["device"] == "cpu":
        node += (Parameter("threads", machine["threads"], "as many as were timed"),)
    if keyframe is None:
        none = Parameter("keyframes", "none", no_keyframe)
        return Advice(False, (rate_message, f"no keyframes: {no_keyframe}"), (*node, none), ())
    period, period_reached, period_message = _choose_period(keyframe, wish.keyframe_period)
    budget = round(BUDGET_SHARE * period, 2)
    node += (
        Parameter("keyframes", "interval", "keyframes with a fixed period"),
        Parameter("keyframe_interval", period, period_message),
    )
    server = (
        *common,
        Parameter("prior", wish.prior, "the prior that was timed"),
        Parameter("time_budget", budget, f"{BUDGET_SHARE:.0%} of the period; {_describe(keyframe, budget)}"),
        Parameter(
            "max_age",
            round(AGE_FACTOR * budget, 2),
            f"{AGE_FACTOR:g} times time_budget: the image also waits for transport and scheduling",
        ),
    )
    return Advice(rate_reached and period_reached, (rate_message, period_message), node, server)


def _choose_row(rows: Sequence[FastRow], rate: float) -> tuple[FastRow, bool, str]:
    """Return the largest input that reaches a rate, or the fastest one; whether it does, and why it is."""
    for row in sorted(rows, key=lambda one: (-one.input_size, one.seconds)):
        if MODEL_SHARE * row.hz >= rate:
            reason = "the largest input that was timed and reaches"
            return row, True, f"{reason} {rate:g} Hz: {row.hz:.3g} Hz by the network alone"
    row = min(rows, key=lambda one: one.seconds)
    return (
        row,
        False,
        f"{rate:g} Hz is not reached: the nearest is {MODEL_SHARE * row.hz:.3g} Hz, {MODEL_SHARE:.0%} of the "
        f"{row.hz:.3g} Hz of the network alone",
    )


def _choose_period(keyframe: KeyframeRow, wanted: float) -> tuple[float, bool, str]:
    """Return the period of the keyframes; whether it is the wanted one, and why."""
    least = (keyframe.start_seconds + MIN_STEPS * keyframe.image_seconds) / BUDGET_SHARE
    if least <= wanted:
        return float(wanted), True, f"one keyframe in {wanted:g} s is reached"
    nearest = float(math.ceil(least * 10.0) / 10.0)
    return (
        nearest,
        False,
        f"one keyframe in {wanted:g} s is not reached: the nearest is {nearest:g} s, for {MIN_STEPS} "
        "steps of one member with one light",
    )


def _describe(keyframe: KeyframeRow, budget: float) -> str:
    """Return how much of the preset fits into a time budget."""
    whole = (
        f"{keyframe.steps} steps of {keyframe.members} members take about {keyframe.estimated_seconds:.3g} s"
    )
    if keyframe.estimated_seconds <= budget:
        return f"all {whole}"
    return f"{whole}, so fewer steps, members or lights are planned"


def write_parameters(path: Path, advice: Advice, title: str) -> None:
    """Write a file for `--params-file`, with the reason above each value.

    Args:
        path: of the file.
        advice: the values.
        title: first lines of the file.
    """
    lines = [f"# {line}" for line in wrap(f"{title} {'; '.join(advice.messages)}.", 92)]
    for node in ("redepth_node", "refine_server"):
        parameters: tuple[Parameter, ...] = getattr(advice, node)
        if parameters:
            lines += ["", f"/**/{node}:", "  ros__parameters:"]
        for one in parameters:
            lines += [f"    # {line}" for line in wrap(f"{one.reason}.", 90)]
            lines.append(f"    {one.name}: {json.dumps(one.value)}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
