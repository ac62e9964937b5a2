#!/usr/bin/env python3
"""Does smoothing the scale backwards in time bring anything to `redepth process`?

    ./dev bench scale_smoothing [--seeds 5] [--frames 40]

The future of a recording is known. A Rauch-Tung-Striebel pass over the states of the scale filter can use
it; restarts of the filter cut the pass, and the frames that show a jump belong to the new scale. The controls
are the filter alone, as in the node, and no filter: the last fit.

The first table has sequences as the filter assumes them: the scale drifts by 1 % per second, and its
measurements scatter by 5 %. The second one has a camera in rendered rooms, 200 anchors with 1 % noise of
which 5 % are wrong, no fusion, and two kinds of disparity: the true one with a smooth error of 3 %, times a
factor that varies from frame to frame; and that of the embedded network. It counts the depth: a factor of
the network changes scale and depth together.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mapping import room_frames
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scale_fit import smooth_error

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.models.depth_anything import DepthAnything

RATE, MAX_DEPTH = 10.0, 8.0
"""Frames per second, and depth that counts, metres."""
FACTOR = 0.05
"""Relative standard deviation of the network's factor from frame to frame, as the filter assumes it."""
ANCHORS, NOISE, OUTLIERS = 200, 0.01, 0.05
METHODS = ("no filter", "filter", "filter and backward pass")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class State:
    """Slope and offset (2,) of `Scale.line`, and their covariance (2, 2)."""

    mean: Array
    covariance: Array


class RecordingFilter(ScaleFilter):
    """Tells where it started anew, and how many frames before had shown the jump."""

    restarts, shown = 0, 0

    def _restart(self, mean: Array, covariance: Array) -> None:
        self.restarts, self.shown = self.restarts + 1, max(0, len(self._recent) - 1)
        super()._restart(mean, covariance)

    @property
    def state(self) -> State | None:
        return None if self.scale is None else State(*self.scale.line())


def filter_scales(fits: Sequence[Scale | None]) -> tuple[list[State], list[State]]:
    """Return the states of the filter, and those after the backward pass; the first frame has a fit."""
    scale_filter = RecordingFilter(measurement_noise=FACTOR)
    predicted: list[State | None] = []
    filtered: list[State] = []
    measured: list[int] = []
    begins = {}  # frame of a restart -> first frame of the new scale
    for frame, fit in enumerate(fits):
        scale_filter.advance(frame / RATE)
        predicted.append(scale_filter.state)
        restarts = scale_filter.restarts
        if fit is not None:
            measured.append(frame)
            scale_filter.update(frame / RATE, fit)
        if scale_filter.restarts > restarts:
            begins[frame] = measured[-1 - scale_filter.shown]
        assert scale_filter.state is not None
        filtered.append(scale_filter.state)
    return filtered, smooth_states(predicted, filtered, begins)


def smooth_states(
    predicted: list[State | None], filtered: list[State], begins: dict[int, int]
) -> list[State]:
    """Return the Rauch-Tung-Striebel smoothed states, segment by segment."""
    smoothed = list(filtered)
    begin = len(filtered)
    for frame in range(len(filtered) - 2, -1, -1):
        begin = begins.get(frame + 1, begin)
        if frame + 1 == begin:  # the last frame before a new scale
            continue
        if any(start <= frame < restart for restart, start in begins.items()):
            smoothed[frame] = smoothed[frame + 1]  # these frames have shown the jump
            continue
        ahead, prediction, own = smoothed[frame + 1], predicted[frame + 1], filtered[frame]
        assert prediction is not None
        gain = own.covariance @ np.linalg.inv(prediction.covariance)
        smoothed[frame] = State(
            own.mean + gain @ (ahead.mean - prediction.mean),
            own.covariance + gain @ (ahead.covariance - prediction.covariance) @ gain.T,
        )
    return smoothed


def all_methods(fits: Sequence[Scale | None]) -> dict[str, list[State]]:
    """Return the states of every frame by method; frames before the first fit take it."""
    first = next(index for index, fit in enumerate(fits) if fit is not None)
    last, held = fits[first], []
    for fit in fits[first:]:
        last = fit or last
        assert last is not None
        held.append(State(*last.line()))
    return {
        name: [states[0]] * first + states
        for name, states in zip(METHODS, (held, *filter_scales(fits[first:])), strict=True)
    }


def simulate(seed: int, period: int, jump: float, frames: int = 300) -> dict[str, tuple[float, ...]]:
    """Return mean error and mean change of the scale by method, for a fit in every `period` frames."""
    rng = np.random.default_rng(seed)
    drift = np.cumsum(0.01 / math.sqrt(RATE) * rng.standard_normal(frames))
    truth = 5.0 * np.exp(drift) * np.where(np.arange(frames) < frames // 2, 1.0, jump)
    raw = truth * np.exp(FACTOR * rng.standard_normal(frames))
    fits = [
        None if number % period else Scale(scale, 0.08 * scale, (1e-4, 2e-5, 1e-5))
        for number, scale in enumerate(raw)
    ]
    results = {}
    for name, states in all_methods(fits).items():
        scales = -np.log([state.mean[0] for state in states])
        results[name] = (np.abs(scales - np.log(truth)).mean(), np.abs(np.diff(scales)).mean())
    return results


def measure_room(
    disparities: list[Array], depths: list[Array], period: int, rng: np.random.Generator
) -> dict[str, tuple[float, ...]]:
    """Return the mean error of ln depth, and the mean change of its median from frame to frame."""
    fits = [
        None if number % period else fit_frame(disparity, depth, rng)
        for number, (disparity, depth) in enumerate(zip(disparities, depths, strict=True))
    ]
    results = {}
    for name, states in all_methods(fits).items():
        errors, medians = [], []
        for state, disparity, depth in zip(states, disparities, depths, strict=True):
            counted = np.isfinite(depth) & (depth < MAX_DEPTH)
            inverse = np.maximum(state.mean[0] * disparity[counted] + state.mean[1], 0.1 / MAX_DEPTH)
            difference = -np.log(inverse * depth[counted])
            errors.append(np.abs(difference).mean())
            medians.append(np.median(difference))
        results[name] = (float(np.mean(errors)), float(np.abs(np.diff(medians)).mean()))
    return results


def fit_frame(disparity: Array, depth: Array, rng: np.random.Generator) -> Scale | None:
    """Fit the scale to random anchors."""
    chosen = rng.choice(np.flatnonzero(np.isfinite(depth) & (depth < 30.0)), ANCHORS, replace=False)
    measured = depth.flat[chosen] * (1.0 + NOISE * rng.standard_normal(ANCHORS))
    wrong = rng.random(ANCHORS) < OUTLIERS
    measured[wrong] = rng.uniform(0.5, MAX_DEPTH, wrong.sum())
    try:
        return fit_scale(disparity.flat[chosen], measured, noise=NOISE).scale
    except AnchorError:
        return None


def print_table(console: Console, title: str, rows: dict[str, list[dict]]) -> None:
    """Print means over seeds."""
    table = Table("sequence", *METHODS, title=title)
    for name, results in rows.items():
        means = [np.mean([one[method] for one in results], axis=0) for method in METHODS]
        table.add_row(name, *(f"{100.0 * error:.2f} %, {100.0 * change:.2f} %" for error, change in means))
    console.print(table)


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="rendered rooms")
    parser.add_argument("--frames", type=int, default=40, help="of each room")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console, periods = Console(width=140), {1: "every frame", 10: "every 10th frame"}
    rows: dict[str, list[dict]] = {}
    for jump in (1.0, 1.3):
        for period, words in periods.items():
            name = f"fits in {words}" + (f", one jump by {jump:g}" if jump > 1.0 else "")
            rows[name] = [simulate(seed, period, jump) for seed in range(40)]
    print_table(console, "as the filter assumes, 40 seeds: error of the scale, change", rows)
    model, seed, rows = DepthAnything.load("tiny", device="cpu"), 97_000_000, {}
    for number in range(options.seeds):
        seed, frames = room_frames(seed, options.frames, 160, 120)
        rng = np.random.default_rng(number)
        depths = [np.where(np.isfinite(one.depth), one.depth, 1e3).astype(np.float64) for one in frames]
        error = 1.0 + 0.03 * smooth_error(depths[0].shape, number)
        good = [5.0 * error / depth - 0.2 for depth in depths]
        kinds = {
            "3 % smooth error": good,
            f"the same, factor of {FACTOR:.0%}": [
                one * math.exp(FACTOR * rng.standard_normal()) for one in good
            ],
            "embedded network": [model.predict(one.image).double().numpy() for one in frames],
        }
        for kind, disparities in kinds.items():
            for period, words in periods.items():
                result = measure_room(disparities, depths, period, rng)
                rows.setdefault(f"{kind}, anchors in {words}", []).append(result)
    title = f"rendered rooms, {options.seeds} seeds of {options.frames} frames: error of the depth, change"
    print_table(console, title, rows)


if __name__ == "__main__":
    main()
