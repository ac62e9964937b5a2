"""Tables and figures of the demo's results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from redepth_ros.cli.demo.motorcycle import Motorcycle
from redepth_ros.cli.demo.records import Errors, Keyframe, Scene, align, first_of_each_image
from redepth_ros.cli.demo.watcher import MAX_SCENES, Watcher
from redepth_ros.core.stream.sliding_window import SlidingWindow
from redepth_ros.data.rendered import SampleImage
from redepth_ros.viz.figures import plot_depth, plot_refinement

__all__ = ["photograph_label", "print_keyframes", "print_motorcycle", "print_stream", "write_figures"]

KnownImages = dict[str, SampleImage]
"""Images whose true depth is known, by the keys of the scenes."""


def photograph_label(model: str, prior: str) -> str:
    """Return what the figures say of a sample photograph without true depth."""
    label = "photograph without true depth"
    if "tiny" in (model, prior):
        label += ": an example of the embedded networks, not of a real one"
    return label


def _label_unknown(scene: Scene, known: KnownImages, label: str) -> str:
    return "" if scene.key in known else label


def write_figures(console: Console, watcher: Watcher, known: KnownImages, out: Path, label: str = "") -> None:
    """Write a figure for each scene and for the first keyframe of each image.

    Args:
        label: added to the titles of images without true depth.
    """
    for number, scene in enumerate(watcher.scenes, 1):
        path = out / f"scene_{number}.png"
        title = _label_unknown(scene, known, label)
        plot_depth(path, scene.image, scene.depth, scene.camera, unit="unit of the network", title=title)
        console.print(f"wrote {path}", soft_wrap=True)
    for number, keyframe in enumerate(first_of_each_image(watcher.keyframes, 2 * MAX_SCENES), 1):
        path = out / f"keyframe_{number}.png"
        plot_keyframe(
            path, keyframe, known.get(keyframe.scene.key), _label_unknown(keyframe.scene, known, label)
        )
        console.print(f"wrote {path}", soft_wrap=True)


def plot_keyframe(path: Path, keyframe: Keyframe, known: SampleImage | None, label: str = "") -> None:
    """Write the figure of a keyframe; a known true depth adds the errors, and a label follows the outcome."""
    scene = keyframe.scene
    fast, refined, unit = scene.depth, keyframe.refined, "unit of the network"
    title = f"keyframe, {keyframe.seconds:.1f} s after its image"
    outcome = "; ".join(filter(None, (keyframe.outcome, label)))
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


def print_keyframes(console: Console, watcher: Watcher, known: KnownImages, label: str = "") -> None:
    """Print every goal with its outcome and, where the true depth is known, the errors of its depth.

    Args:
        label: explains photographs without true depth; empty if the footage is not of sample images.
    """
    goals = list(watcher.goals.values())
    table = Table(title=f"{len(goals)} keyframes")
    for title in ("", "image", "outcome", "delay", "AbsRel\nfast", "refined", "change"):
        table.add_column(title, justify="left" if title in ("image", "outcome") else "right")
    for number, goal in enumerate(goals, 1):
        keyframe = goal.keyframe
        if keyframe is None:
            table.add_row(str(number), "", goal.outcome)
            continue
        height, width = keyframe.scene.image.shape[:2]
        image, errors = known.get(keyframe.scene.key), ("", "", "")
        name = f"{width}x{height} {'photograph' if label else ''}".strip()
        if image is not None:
            name = f"{width}x{height} {image.kind}"
            found = Errors.measure(keyframe, image.depth)
            errors = (f"{found.fast:.4f}", f"{found.refined:.4f}", found.change)
        table.add_row(str(number), name, goal.outcome, f"{keyframe.seconds:.1f} s", *errors)
    console.print(table)
    counts = Counter(goal.outcome for goal in goals)
    console.print(f"outcomes: {', '.join(f'{count} {name}' for name, count in counts.items()) or 'none'}")
    for message in dict.fromkeys(goal.message for goal in goals if goal.outcome == "failed"):
        console.print(f"failed: {message}")
    if label:
        console.print(label)
    if watcher.keyframes:
        delays = [keyframe.seconds for keyframe in watcher.keyframes]
        console.print(f"median delay from image to refined depth: {np.median(delays):.1f} s")


def print_motorcycle(console: Console, motorcycle: Motorcycle) -> None:
    """Print the errors of all methods on the photograph with true depth."""
    table = Table("depth", title=f"Motorcycle, {motorcycle.description}")
    table.add_column("AbsRel", justify="right")
    for name, error in motorcycle.errors.items():
        table.add_row(name, f"{error:.4f}")
    console.print(table)
    console.print(f"refinement with the returns: {motorcycle.outcome}")
