"""`redepth demo`: the nodes at work on footage, watched from a third process."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.cli.sheets import draw_sheet
from redepth_ros.core.errors import RedepthError
from redepth_ros.core.intrinsics import Intrinsics
from redepth_ros.core.meters import Meter
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.ros.cameras import intrinsics_of, nanoseconds
from redepth_ros.ros.footage import open_footage
from redepth_ros.ros.images import decode_image

__all__ = ["run_demo"]

NAMESPACE = "/redepth_demo"
MOST_SCENES = 8
STARTUP_SECONDS = 600.0
"""A model may have to be downloaded first."""
NODE_STATUS = "redepth_node: fast depth"


@dataclass(frozen=True)
class Scene:
    """An image with the depth that came back for it."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Intrinsics


class Watcher(Node):
    """Collects what the nodes publish: rates, latencies, and some scenes."""

    def __init__(self, spacing: float) -> None:
        super().__init__("watcher", namespace=NAMESPACE)
        self.images, self.latencies = Meter(3600.0), Meter(3600.0)
        self.scenes: list[Scene] = []
        self.diagnostics: dict[str, str] = {}
        self.failure = ""
        """What the node can't do, as its diagnostics say it."""
        self._spacing = spacing
        """Seconds between scenes, so that a long video is sampled from end to end."""
        self._last_scene = float("-inf")
        self._seen: set[str] = set()
        self._frames: OrderedDict[int, dict[str, Image | CameraInfo]] = OrderedDict()
        for kind, topic in ((Image, "image"), (Image, "depth/image"), (CameraInfo, "depth/camera_info")):
            self.create_subscription(kind, topic, partial(self._note, topic), 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._note_diagnostics, 10)

    def _note(self, topic: str, message: Image | CameraInfo) -> None:
        """File a message with those of its stamp; the three of a frame come in any order."""
        stamp = nanoseconds(message.header.stamp)
        if topic == "image":
            self.images.add()
        elif topic == "depth/image":
            self.latencies.add((self.get_clock().now().nanoseconds - stamp) * 1e-9)
        frame = self._frames.setdefault(stamp, {})
        frame[topic] = message
        if len(frame) == 3:
            self._keep_scene(frame["image"], frame["depth/image"], frame["depth/camera_info"])
        if len(self._frames) > 30:
            self._frames.popitem(last=False)

    def _keep_scene(self, image: Image, depth: Image, info: CameraInfo) -> None:
        now = time.monotonic()
        if len(self.scenes) >= MOST_SCENES or now - self._last_scene < self._spacing:
            return
        digest = hashlib.sha1(image.data).hexdigest()
        if digest not in self._seen:
            self._seen.add(digest)
            self._last_scene = now
            intrinsics = intrinsics_of(info, depth.height, depth.width)
            values = np.frombuffer(depth.data, np.float32).reshape(depth.height, depth.width)
            self.scenes.append(Scene(decode_image(image), values, intrinsics))

    def _note_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{NAMESPACE.lstrip('/')}/{NODE_STATUS}":
                self.diagnostics = {value.key: value.value for value in status.values}
                self.failure = status.message if status.level == DiagnosticStatus.ERROR else ""


def run_demo(path: str, model: str, rate: float, seconds: float, out: Path) -> None:
    """Play footage through the nodes for some seconds; leave pictures in `out`, print a table.

    Raises:
        RedepthError: the footage or the model can't be used, or a node ended.
    """
    console = Console()
    footage = open_footage(path)  # says what is wrong with a path before anything is started
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("scene_*.png"):
        old.unlink()
    player = ["-p", f"rate:={rate}"]
    if path:
        player += ["-p", f"path:={Path(path).expanduser().resolve()}"]
    with ExitStack() as stack:
        started = {
            "redepth_node": _start(stack, "redepth_node", ["-p", f"model:={model}"], out),
            "camera_player": _start(stack, "camera_player", player, out),
        }
        rclpy.init()
        stack.callback(rclpy.try_shutdown)
        watcher = Watcher(spacing=seconds / (2 * MOST_SCENES))
        executor = SingleThreadedExecutor()
        executor.add_node(watcher)
        viewer = _start_viewer(stack)
        if viewer is not None:
            console.print("rviz2 shows it; close it to end the demo")
        _watch(executor, watcher, started, footage.description, seconds, viewer, out, console)
    for index, scene in enumerate(watcher.scenes):
        picture = out / f"scene_{index + 1}.png"
        draw_sheet(picture, scene.image, scene.depth, scene.intrinsics)
        console.print(f"wrote {picture}")
    _print_table(console, watcher, footage.description)


def _watch(
    executor: SingleThreadedExecutor, watcher: Watcher, started: dict[str, subprocess.Popen[bytes]],
    description: str, seconds: float, viewer: subprocess.Popen[bytes] | None, out: Path, console: Console,
) -> None:  # fmt: skip
    """Spin until the time is over, or rviz is closed, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting the nodes", total=seconds, note="")
        begun, first = time.monotonic(), float("inf")
        while viewer.poll() is None if viewer else time.monotonic() - first < seconds:
            executor.spin_once(timeout_sec=0.1)
            for name, process in started.items():
                if process.poll() is not None:
                    raise RedepthError(f"{name} ended:\n{_tail(out / f'{name}.log')}")
            if watcher.failure:
                raise RedepthError(f"redepth_node {watcher.failure}")
            now = time.monotonic()
            if watcher.latencies.total and first == float("inf"):
                first = now
                progress.update(task, description=f"playing {description}")
            if first == float("inf") and now - begun > STARTUP_SECONDS:
                raise RedepthError(
                    f"no depth after {STARTUP_SECONDS:g} s:\n{_tail(out / 'redepth_node.log')}"
                )
            note = f"{watcher.latencies.total} depth images, {len(watcher.scenes)} scenes"
            progress.update(task, completed=max(0.0, now - first), note=note)


def _start(stack: ExitStack, name: str, arguments: list[str], out: Path) -> subprocess.Popen[bytes]:
    """An executable of this package as a process that ends with the stack."""
    log = stack.enter_context((out / f"{name}.log").open("wb"))
    command = [sys.executable, "-m", f"redepth_ros.nodes.{name}", "--ros-args"]
    process = subprocess.Popen(
        [*command, "-r", f"__ns:={NAMESPACE}", *arguments], stdout=log, stderr=subprocess.STDOUT
    )
    stack.callback(_end, process)
    return process


def _start_viewer(stack: ExitStack) -> subprocess.Popen[bytes] | None:
    """rviz2 with this package's view, where there are an rviz2 and a screen."""
    if not shutil.which("rviz2") or not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    from ament_index_python.packages import get_package_share_directory

    view = Path(get_package_share_directory("redepth_ros"), "config", "redepth.rviz")
    process = subprocess.Popen(["rviz2", "-d", str(view), "--ros-args", "-r", f"__ns:={NAMESPACE}"])
    stack.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def _print_table(console: Console, watcher: Watcher, description: str) -> None:
    latencies, known = watcher.latencies, watcher.diagnostics
    table = Table(title=f"redepth_node on {description}", show_header=False)
    table.add_row("model", f"{known.get('model', '?')} on {known.get('device', '?')}")
    table.add_row("images in", f"{watcher.images.rate():.1f} Hz")
    table.add_row("depth out", f"{latencies.rate():.1f} Hz")
    for name, percent in (("median", 50), ("95th percentile", 95)):
        text = f"{latencies.percentile(percent) * 1e3:.1f} ms"
        table.add_row(f"latency, {name}", text)
    table.add_row("model alone, median", f"{known.get('model time median (ms)', '?')} ms")
    table.add_row("frames overwritten", known.get("frames overwritten", "?"))
    table.add_row("depth is", known.get("depth", "?"))
    for text in _motorcycle_errors(watcher.scenes):
        table.add_row("Motorcycle, AbsRel", text)
    console.print(table)


def _motorcycle_errors(scenes: list[Scene]) -> list[str]:
    """Error on the one photograph that has a true depth, if it was played."""
    import skimage.data

    picture, _, disparity = skimage.data.stereo_motorcycle()
    measured = np.isfinite(disparity) & (disparity > 0)
    # Middlebury 2014: baseline in metres, focal length and disparity offset in pixels.
    truth = 0.193001 * 994.978 / (np.where(measured, disparity, 1.0) + 31.086)
    texts = []
    for scene in scenes:
        if not np.array_equal(scene.image, picture):
            continue
        valid = measured & np.isfinite(scene.depth)
        found = depth_errors(align_depth(1.0 / scene.depth[valid], truth[valid]), truth[valid])
        flat = depth_errors(np.full(valid.sum(), np.median(truth[valid])), truth[valid])
        texts.append(f"{found['abs_rel']:.3f} against its true depth (a flat wall: {flat['abs_rel']:.3f})")
    return texts
