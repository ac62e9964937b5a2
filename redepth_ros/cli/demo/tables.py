"""Tables and figures of the demo's results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from redepth_ros.cli.demo.records import Errors, Keyframe, align, first_of_each_image
from redepth_ros.cli.demo.watcher import MAX_SCENES, Watcher
from redepth_ros.core.stream.sliding_window import SlidingWindow
from redepth_ros.data.rendered import SampleImage
from redepth_ros.viz.figures import plot_depth, plot_refinement

__all__ = ["print_keyframes", "print_stream", "write_figures"]

KnownImages = dict[str, SampleImage]
"""Images whose true depth is known, by the keys of the scenes."""


def write_figures(console: Console, watcher: Watcher, known: KnownImages, out: Path) -> None:
    """Write a figure for each scene and for the first keyframe of each image."""
    for number, scene in enumerate(watcher.scenes, 1):
        path = out / f"scene_{number}.png"
        plot_depth(path, scene.image, scene.depth, scene.camera, unit="unit of the network")
        console.print(f"wrote {path}", soft_wrap=True)
    for number, keyframe in enumerate(first_of_each_image(watcher.keyframes, 2 * MAX_SCENES), 1):
        path = out / f"keyframe_{number}.png"
        plot_keyframe(path, keyframe, known.get(keyframe.scene.key))
        console.print(f"wrote {path}", soft_wrap=True)


def plot_keyframe(path: Path, keyframe: Keyframe, known: SampleImage | None) -> None:
    """Write the figure of a keyframe; a known true depth adds the errors."""
    scene = keyframe.scene
    fast, refined, unit = scene.depth, keyframe.refined, "unit of the network"
    title = f"keyframe, {keyframe.seconds:.1f} s after its image"
    outcome = keyframe.outcome
    truth = None if known is None else known.depth
    if truth is not None:
        errors = Errors.measure(keyframe, truth)
        outcome += f", AbsRel {errors.fast:.4f} fast, {errors.refined:.4f} refined ({errors.change})"
        fast, refined, unit = align(fast, truth), align(refined, truth), "unit of the true depth"
    plot_refinement(
        path, scene.image, fast, refined, scene.camera, unit=unit, title=title, outcome=outcome, truth=truth
    )


def print_stream(console: Console, watcher: Watcher, description: str) -> None:
    """Print rates and latencies of the fast depth, alone and beside the refinement."""
    diagnostics = watcher.diagnostics
    phases = (watcher.latencies_alone or SlidingWindow(), watcher.latencies)
    table = Table("fast depth", "alone", "while refining", title=f"redepth_node on {description}")
    table.add_row("images in", f"{watcher.images.rate():.1f} Hz")
    table.add_row("depth out", *(f"{phase.rate():.1f} Hz" for phase in phases))
    for name, percent in (("median", 50), ("95th percentile", 95)):
        table.add_row(f"latency, {name}", *(f"{phase.percentile(percent) * 1e3:.1f} ms" for phase in phases))
    table.add_row("network alone, median", f"{diagnostics.get('model time median (ms)', '?')} ms")
    table.add_row("frames overwritten", diagnostics.get("frames overwritten", "?"))
    console.print(table)
    console.print(f"model: {diagnostics.get('model', '?')} on {diagnostics.get('device', '?')}")
    console.print(f"depth is {diagnostics.get('depth', '?')}")


def print_keyframes(console: Console, watcher: Watcher, known: KnownImages) -> None:
    """Print every keyframe with its outcome and, where the true depth is known, its errors."""
    keyframes = watcher.keyframes
    table = Table(title=f"{len(keyframes)} keyframes")
    for title in ("", "image", "outcome", "delay", "AbsRel fast", "refined", "change"):
        table.add_column(title, justify="left" if title in ("image", "outcome") else "right")
    for number, keyframe in enumerate(keyframes, 1):
        height, width = keyframe.scene.image.shape[:2]
        image, errors = known.get(keyframe.scene.key), ("", "", "")
        name = f"{width}x{height}"
        if image is not None:
            name = f"{name} {image.kind}"
            found = Errors.measure(keyframe, image.depth)
            errors = (f"{found.fast:.4f}", f"{found.refined:.4f}", found.change)
        table.add_row(str(number), name, keyframe.outcome, f"{keyframe.seconds:.1f} s", *errors)
    console.print(table)
    counts = Counter(keyframe.outcome for keyframe in keyframes)
    counts["failed"] += len(watcher.failures)
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    console.print(f"outcomes: {outcomes or 'none'}")
    for message in dict.fromkeys(watcher.failures):
        console.print(f"failed: {message}")
    if keyframes:
        delays = [keyframe.seconds for keyframe in keyframes]
        console.print(f"median delay from image to refined depth: {np.median(delays):.1f} s")
