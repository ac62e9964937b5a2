"""The course of the demo: start the nodes, observe them, write figures and print tables."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console

from redepth_ros.cli.demo.footage import load_known_images, write_footage
from redepth_ros.cli.demo.motorcycle import compare_on_motorcycle
from redepth_ros.cli.demo.processes import NodeProcess, start_viewer
from redepth_ros.cli.demo.tables import (
    photograph_label,
    print_keyframes,
    print_motorcycle,
    print_stream,
    write_figures,
)
from redepth_ros.cli.demo.watcher import MAX_SCENES, Watcher
from redepth_ros.cli.progress import progress_bar
from redepth_ros.core.errors import RedepthError
from redepth_ros.exports.files import make_folder
from redepth_ros.models.engine import Engine
from redepth_ros.nodes.camera_player import open_player_input

__all__ = ["run_demo"]

STARTUP_TIMEOUT = 600.0
"""Seconds; a model may have to be downloaded first."""

REFINEMENT = {"ensemble_size": 1, "steps": 50}
"""Half of the members and a third of the steps, so that a CPU shows several keyframes."""

TINY_INPUT_SIZE = 160
"""Pixels: two thirds of the embedded network's own size, with which a keyframe takes half of the time."""

SHARE_ALONE = 0.25
"""Share of the duration before the first keyframe, in which the fast depth runs alone."""


def run_demo(path: str, model: str, prior: str, rate: float, seconds: float, out: Path) -> None:
    """Play footage through the nodes; write figures to a folder and print tables.

    The first quarter shows fast depth alone, then keyframes are refined as well. With the sample images,
    a photograph with true depth and simulated lidar returns follows, without the nodes.

    Args:
        path: of the footage, see `open_player_input`; empty plays the sample images.
        model, prior: of the nodes.
        rate: frames per second; 0 takes the footage's own.
        seconds: duration from the first depth on.
        out: folder; made if missing.

    Raises:
        RedepthError: the footage or a network can't be used, or a node ended.
    """
    console = Console()
    footage = open_player_input(path)  # checks the path before anything is started
    make_folder(out)
    for old in (*out.glob("scene_*.png"), *out.glob("keyframe_*.png"), *out.glob("motorcycle.png")):
        old.unlink()
    description, samples = footage.description, not path
    if samples:
        description = "sample images"
        write_footage(out / "footage")
        path = str(out / "footage")
    with ExitStack() as stack:
        nodes = _start_nodes(stack, path, model, prior, rate, out)
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        watcher = Watcher(spacing=seconds / (2 * MAX_SCENES))
        viewer = start_viewer(stack)
        if viewer is not None:
            console.print("rviz2 shows the depth; close it to end the demo")
        _watch(watcher, nodes, description, seconds, viewer, console)
    known = load_known_images()
    label = photograph_label(model, prior) if samples else ""
    write_figures(console, watcher, known, out, label)
    print_stream(console, watcher, description)
    print_keyframes(console, watcher, known, label)
    if samples:
        _show_motorcycle(console, model, prior, out)


def _show_motorcycle(console: Console, model: str, prior: str, out: Path) -> None:
    """Compare all methods on a photograph with true depth; the nodes have ended."""
    with console.status("a photograph with true depth and simulated lidar returns"):
        engine = Engine.load(model, prior)
        motorcycle = compare_on_motorcycle(engine, **REFINEMENT)
        motorcycle.plot(out / "motorcycle.png", f"{model} with {prior}")
    console.print(f"wrote {out / 'motorcycle.png'}", soft_wrap=True)
    print_motorcycle(console, motorcycle)


def _start_nodes(
    stack: ExitStack, path: str, model: str, prior: str, rate: float, out: Path
) -> dict[str, NodeProcess]:
    network: dict[str, object] = {"model": model, "threads": 1}
    if model == "tiny":
        network["input_size"] = TINY_INPUT_SIZE
    parameters: dict[str, dict[str, object]] = {
        "redepth_node": {**network, "keyframes": "none"},
        "refine_server": {**network, "prior": prior, **REFINEMENT},
        "camera_player": {"path": str(Path(path).expanduser().resolve()), "rate": rate},
    }
    return {
        name: NodeProcess(stack, name, values, out / f"{name}.log") for name, values in parameters.items()
    }


def _watch(
    watcher: Watcher,
    nodes: dict[str, NodeProcess],
    description: str,
    seconds: float,
    viewer: subprocess.Popen[bytes] | None,
    console: Console,
) -> None:
    """Spin the watcher until the time is over or rviz2 is closed."""
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    with progress_bar(console) as progress:
        task = progress.add_task("starting", total=seconds, note="the nodes")
        begun, first = time.monotonic(), float("inf")
        while viewer.poll() is None if viewer else time.monotonic() - first < seconds:
            executor.spin_once(timeout_sec=0.1)
            for node in nodes.values():
                node.check()
            if watcher.error:
                raise RedepthError(watcher.error)
            now = time.monotonic()
            if watcher.latencies.total and first == float("inf"):
                first = now
                progress.update(task, description="playing")
                console.print(f"playing {description}")
            if first == float("inf"):
                if now - begun > STARTUP_TIMEOUT:
                    log = nodes["redepth_node"].log_end()
                    raise RedepthError(f"no depth after {STARTUP_TIMEOUT:g} s:\n{log}")
                continue
            if watcher.latencies_alone is None and now - first > SHARE_ALONE * seconds:
                watcher.begin_keyframes()
            count = watcher.latencies.total + (
                watcher.latencies_alone.total if watcher.latencies_alone else 0
            )
            note = f"{count} depth images, {len(watcher.keyframes)} keyframes"
            progress.update(task, completed=now - first, note=note)
    if watcher.waits_for_keyframes:
        console.print("redepth_node did not respond to the request for keyframes")
