"""`redepth demo`: the nodes at work on footage, watched from a third process."""

from __future__ import annotations

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
import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.cli.demo.footage import digest_of, write_footage
from redepth_ros.viz.figures import draw_refinement, draw_sheet
from redepth_ros.core.errors import RedepthError
from redepth_ros.core.camera import normals_from_points, pixel_rays, points_from_depth
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.stream.sliding_window import Meter
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.ros.msgs.camera_info import intrinsics_of
from redepth_ros.ros.streams.footage import open_footage
from redepth_ros.ros.msgs.images import decode_image
from redepth_ros.ros.streams.message_cache import nanoseconds

__all__ = ["run_demo"]

NAMESPACE = "/redepth_demo"
MOST_SCENES = 8
STARTUP_SECONDS = 600.0
"""A model may have to be downloaded first."""
NODE_STATUS = "redepth_node: fast depth"
SERVER_STATUS = "refine_server: refinement"
OUTCOMES = ("refined", "stopped early", "kept fast", "failed")
ALONE = 0.25
"""Share of the time before the first keyframe, to measure the fast stream alone."""
MOST_FRAMES = 120
"""Frames whose fast depth is kept until their refined one comes."""


@dataclass(frozen=True)
class Scene:
    """An image with the depth that came back for it."""

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: Intrinsics


@dataclass(frozen=True)
class Keyframe:
    """A scene, its refined depth, and how long after its stamp that came."""

    scene: Scene
    refined: NDArray[np.float32]
    seconds: float


class Watcher(Node):
    """Collects what the nodes publish: rates, latencies, and some scenes."""

    def __init__(self, spacing: float) -> None:
        super().__init__("watcher", namespace=NAMESPACE)
        self.images, self.latencies = Meter(3600.0), Meter(3600.0)
        self.alone: Meter | None = None
        """Latencies before the first keyframe, once that is over."""
        self.scenes: list[Scene] = []
        self.keyframes: list[Keyframe] = []
        self.outcomes: dict[str, int] = {}
        self.diagnostics: dict[str, str] = {}
        self.failure = ""
        """What a node can't do, as its diagnostics say it."""
        self._spacing = spacing
        """Seconds between scenes, so that a long video is sampled from end to end."""
        self._last_scene = float("-inf")
        self._seen: set[str] = set()
        self._frames: OrderedDict[int, dict[str, Image | CameraInfo]] = OrderedDict()
        for kind, topic in ((Image, "image"), (Image, "depth/image"), (CameraInfo, "depth/camera_info")):
            self.create_subscription(kind, topic, partial(self._note, topic), 10)
        self.create_subscription(Image, "refined/depth", self._note_refined, 10)
        self.parameters = self.create_client(SetParameters, "redepth_node/set_parameters")
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
        if len(self._frames) > MOST_FRAMES:
            self._frames.popitem(last=False)

    def _keep_scene(self, image: Image, depth: Image, info: CameraInfo) -> None:
        now = time.monotonic()
        if len(self.scenes) >= MOST_SCENES or now - self._last_scene < self._spacing:
            return
        digest = digest_of(decode_image(image))
        if digest not in self._seen:
            self._seen.add(digest)
            self._last_scene = now
            self.scenes.append(_scene_of(image, depth, info))

    def _note_refined(self, message: Image) -> None:
        """A keyframe, with what came of its frame before."""
        frame = self._frames.pop(nanoseconds(message.header.stamp), {})
        if len(frame) == 3:
            scene = _scene_of(frame["image"], frame["depth/image"], frame["depth/camera_info"])
            age = (self.get_clock().now().nanoseconds - nanoseconds(message.header.stamp)) * 1e-9
            self.keyframes.append(Keyframe(scene, _floats(message), age))

    def _note_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if status.name == f"{NAMESPACE.lstrip('/')}/{NODE_STATUS}":
                self.diagnostics = values
                self._judge("redepth_node", status)
            elif status.name == f"{NAMESPACE.lstrip('/')}/{SERVER_STATUS}":
                self.outcomes = {name: int(values[name]) for name in OUTCOMES}
                self._judge("refine_server", status)

    def _judge(self, name: str, status: DiagnosticStatus) -> None:
        if status.level == DiagnosticStatus.ERROR:
            self.failure = f"{name} {status.message}"

    def begin_keyframes(self) -> None:
        """Let the node send keyframes from now on, and measure its stream anew."""
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="all")
        request = SetParameters.Request(parameters=[Parameter(name="keyframes", value=value)])
        self.parameters.call_async(request)
        self.alone, self.latencies = self.latencies, Meter(3600.0)


def _scene_of(image: Image, depth: Image, info: CameraInfo) -> Scene:
    return Scene(decode_image(image), _floats(depth), intrinsics_of(info, depth.height, depth.width))


def _floats(message: Image) -> NDArray[np.float32]:
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


def run_demo(path: str, model: str, prior: str, rate: float, seconds: float, out: Path) -> None:
    """Play footage through the nodes for some seconds; leave pictures in `out`, print a table.

    For the first quarter there is fast depth alone, then keyframes are refined, too.

    Raises:
        RedepthError: the footage or the model can't be used, or a node ended.
    """
    console = Console()
    footage = open_footage(path)  # says what is wrong with a path before anything is started
    out.mkdir(parents=True, exist_ok=True)
    for old in (*out.glob("scene_*.png"), *out.glob("keyframe_*.png")):
        old.unlink()
    truths: dict[str, NDArray[np.float64]] = {}
    if not path:
        truths = write_footage(out / "footage")
        path = str(out / "footage")
    player = ["-p", f"rate:={rate}", "-p", f"path:={Path(path).expanduser().resolve()}"]
    fast = ["-p", f"model:={model}", "-p", "threads:=1", "-p", "keyframes:=none"]
    # A short refinement, so that a CPU shows several keyframes: half of the members, a third of the steps.
    refining = ["-p", f"model:={model}", "-p", f"prior:={prior}", "-p", "threads:=1",
                "-p", "members:=1", "-p", "steps:=50"]  # fmt: skip
    with ExitStack() as stack:
        started = {
            "redepth_node": _start(stack, "redepth_node", fast, out),
            "refine_server": _start(stack, "refine_server", refining, out),
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
    for index, keyframe in enumerate(_different(watcher.keyframes)):
        picture = out / f"keyframe_{index + 1}.png"
        _draw_keyframe(picture, keyframe)
        console.print(f"wrote {picture}")
    _print_table(console, watcher, footage.description)
    if truths:
        _print_errors(console, watcher.keyframes, truths)


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
                raise RedepthError(watcher.failure)
            now = time.monotonic()
            if watcher.latencies.total and first == float("inf"):
                first = now
                progress.update(task, description=f"playing {description}")
            if first == float("inf") and now - begun > STARTUP_SECONDS:
                raise RedepthError(
                    f"no depth after {STARTUP_SECONDS:g} s:\n{_tail(out / 'redepth_node.log')}"
                )
            if watcher.alone is None and now - first > ALONE * seconds:
                watcher.begin_keyframes()
            note = f"{watcher.latencies.total} depth images, {len(watcher.keyframes)} keyframes"
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
    known, phases = watcher.diagnostics, (watcher.alone or Meter(), watcher.latencies)
    table = Table("", "alone", "while refining", title=f"redepth_node on {description}")
    table.add_row("model", f"{known.get('model', '?')} on {known.get('device', '?')}")
    table.add_row("images in", f"{watcher.images.rate():.1f} Hz")
    table.add_row("depth out", *(f"{phase.rate():.1f} Hz" for phase in phases))
    for name, percent in (("median", 50), ("95th percentile", 95)):
        texts = [f"{phase.percentile(percent) * 1e3:.1f} ms" for phase in phases]
        table.add_row(f"latency, {name}", *texts)
    table.add_row("model alone, median", f"{known.get('model time median (ms)', '?')} ms")
    table.add_row("frames overwritten", known.get("frames overwritten", "?"))
    table.add_row("depth is", known.get("depth", "?"))
    table.add_row("keyframes", "", str(len(watcher.keyframes)))
    if watcher.keyframes:
        ages = [keyframe.seconds for keyframe in watcher.keyframes]
        table.add_row("stamp to refined depth, median", "", f"{np.median(ages):.1f} s")
    outcomes = ", ".join(f"{count} {name}" for name, count in watcher.outcomes.items() if count)
    table.add_row("outcomes", "", outcomes or "none")
    for text in _motorcycle_errors(watcher.scenes):
        table.add_row("Motorcycle, AbsRel", text)
    console.print(table)


def _different(keyframes: list[Keyframe]) -> list[Keyframe]:
    """The first keyframe of each picture, of so many at most."""
    found: dict[str, Keyframe] = {}
    for keyframe in keyframes:
        found.setdefault(digest_of(keyframe.scene.image), keyframe)
    return list(found.values())[: 2 * MOST_SCENES]


def _draw_keyframe(path: Path, keyframe: Keyframe) -> None:
    scene = keyframe.scene
    depths = torch.from_numpy(np.stack((scene.depth, keyframe.refined)))
    normals = normals_from_points(points_from_depth(depths, pixel_rays(scene.intrinsics))).numpy()
    draw_refinement(
        path, scene.image, scene.depth, keyframe.refined, (normals[0], normals[1]), "the model's unit",
        f"keyframe, refined {keyframe.seconds:.1f} s after its stamp",
    )  # fmt: skip


def _print_errors(
    console: Console, keyframes: list[Keyframe], truths: dict[str, NDArray[np.float64]]
) -> None:
    """The error of rendered keyframes before and after refinement."""
    table = Table("rendered keyframe", "AbsRel, fast", "AbsRel, refined", "change")
    for keyframe in _different(keyframes):
        truth = truths.get(digest_of(keyframe.scene.image))
        if truth is None:
            continue
        valid = np.isfinite(truth) & np.isfinite(keyframe.scene.depth) & np.isfinite(keyframe.refined)
        before, after = (
            depth_errors(align_depth(1.0 / depth[valid], truth[valid]), truth[valid])["abs_rel"]
            for depth in (keyframe.scene.depth, keyframe.refined)
        )
        kind = "relief" if truth.shape[0] == truth.shape[1] else "world"
        table.add_row(kind, f"{before:.4f}", f"{after:.4f}", f"{after / before - 1.0:+.1%}")
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
