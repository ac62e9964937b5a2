"""What `redepth process` will do, and how long that takes here."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from redepth_ros.cli.process.work import Work
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.engine import Engine
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection

__all__ = ["Estimate", "count_frames", "measure_speed", "print_plan"]

TRIAL_FRAMES = 3
TRIAL_STEPS = 2


@dataclass(frozen=True)
class Estimate:
    """Seconds that the work takes on this machine."""

    frame: float
    """Per frame, without refinement."""
    keyframe: float = 0.0
    """Per refined keyframe."""


def count_frames(recording: Recording, selection: Selection) -> int | None:
    """Return how many frames are selected, by the recording's rate; None if the recording does not tell."""
    if recording.count is None:
        return None
    picker, step = selection.picker(), 1e9 / recording.rate if recording.rate else 1e9
    return sum(picker.is_wanted(index, round(index * step)) for index in range(recording.count))


@torch.inference_mode()
def measure_speed(
    recording: Recording, selection: Selection, network: DepthAnything, engine: Engine | None, work: Work
) -> Estimate:
    """Process a few frames and steps, without writing anything."""
    frames: list[RecordedFrame] = []
    for item in recording.read(selection):
        if isinstance(item, RecordedFrame):
            frames.append(item)
        if len(frames) == TRIAL_FRAMES:
            break
    times = [0.0]
    for frame in frames:
        started = time.monotonic()
        network.predict_frame(frame.image, work.input_size)
        times.append(time.monotonic() - started)
    keyframe = 0.0
    if engine is not None and work.refine_settings is not None and frames:
        keyframe = _measure_refinement(engine, frames[-1], work)
    return Estimate(min(times[1:], default=0.0), keyframe)


def _measure_refinement(engine: Engine, frame: RecordedFrame, work: Work) -> float:
    settings = work.refine_settings
    assert settings is not None
    with torch.inference_mode(False):
        run = engine.start(frame.image, settings, camera=frame.camera, prompt="", input_size=work.input_size)
        started, share = time.monotonic(), 0.0
        for number, step in enumerate(run.steps(), 1):
            share = step.progress
            if number == TRIAL_STEPS:
                break
        elapsed = time.monotonic() - started
    return elapsed / share if share else 0.0


def count_keyframes(frames: int, recording: Recording, work: Work) -> int:
    """Return the largest number of keyframes."""
    settings, seconds = work.settings, frames / recording.rate if recording.rate else float(frames)
    if work.policy == "none":
        return 0
    if work.policy == "all":
        return frames
    period = max(
        settings.keyframe_min_interval, settings.keyframe_interval if work.policy == "interval" else 0.0
    )
    return min(frames, int(seconds / period) + 1 if period else frames)


def print_plan(
    console: Console,
    recording: Recording,
    frames: int | None,
    already: int,
    actions: list[tuple[str, str]],
    estimate: Estimate | None,
    work: Work,
    workers: int,
) -> None:
    """Print what was found, what will be done, and the time."""
    table = Table(show_header=False, box=None, pad_edge=False)
    height, width = recording.size
    table.add_row("input", recording.description)
    table.add_row("size, rate", f"{width}x{height} pixels, {recording.rate:.4g} Hz")
    for name, value in recording.facts:
        table.add_row(name, value)
    count = "unknown" if frames is None else str(frames)
    table.add_row("frames to process", f"{count}, of which {already} are done" if already else count)
    for name, value in actions:
        table.add_row(name, value)
    if estimate is not None and frames is not None:
        left = max(0, frames - already)
        seconds = left * estimate.frame
        text = f"{_duration(seconds)} for fast depth ({estimate.frame * 1e3:.0f} ms a frame)"
        if work.policy != "none":
            keyframes = count_keyframes(left, recording, work)
            refining = keyframes * estimate.keyframe / workers
            text += (
                f", at most {_duration(refining)} for {keyframes} keyframes ({estimate.keyframe:.3g} s each)"
            )
        table.add_row("time on this machine", text)
    console.print(table)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
