#!/usr/bin/env python3
"""Cost of redepth_node in addition to its network: frame rate, latency, memory.

    ./dev bench node_overhead [--model tiny] [--rounds 5] [--threads 0] [--frames 5000]
    ./dev bench node_overhead --rounds 0 --frames 0    # the loads only

A camera process sends 640 x 480 rgb8 images with their camera_info, the node runs in a second process,
and a third one receives the depth. The bare network and the node are measured in turn: the ratio within a
round does not depend on whether the machine is fast or slow at that time.

- bare: `predict` on one image in a loop, in a process of its own.
- rate: depth images per second while the camera is somewhat faster than the bare network.
- added latency: time from the published image to the received depth, minus the network's time as the
  node reports it; the camera sends at 40 % of the bare rate.
- threads: with one thread per core, camera, receiver and middleware compete with the network; fewer
  threads show the cost of the node alone.
- loads: cameras of 20, 40 and 100 Hz, and one that sends as fast as it can. Rate and latency of depth/image
  as a reliable receiver gets it, its share that a best-effort receiver gets, the share that has a
  depth/camera_info of its stamp, and the processor time of the node for a depth image. The control is the
  bare network's rate, measured before.
- memory: resident memory of a node with a trivial network over a number of frames.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import rclpy
import torch
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.node.qos import OUTPUT
from redepth_ros.ros.parameter_arguments import parameter_arguments

WIDTH, HEIGHT = 640, 480
PATIENCE = 180.0
"""Seconds within which a node gives depth, also on a busy machine."""
END_TIMEOUT = 60.0
"""Seconds within which a process ends."""
LOADS = (20.0, 40.0, 100.0, math.inf)
"""Rates of the camera, Hz; infinity does not wait between two images."""


def make_image() -> np.ndarray:
    """Return noise, (H, W, 3): the network's time does not depend on the image."""
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def measure_bare(model: str, seconds: float, threads: int) -> float:
    """Return the frames per second of the bare network, in this process."""
    if threads:
        torch.set_num_threads(threads)
    network, image = DepthAnything.load(model), make_image()
    for _ in range(5):
        network.predict(image).cpu()
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        network.predict(image).cpu()
        count += 1
    return count / (time.perf_counter() - start)


def run_camera(rate: float) -> None:
    """Send images and camera_info at a rate until the process is ended."""
    rclpy.init()
    node = Node("camera")
    images = node.create_publisher(Image, "image", OUTPUT)
    infos = node.create_publisher(CameraInfo, "camera_info", OUTPUT)
    header = Header(frame_id="camera")
    message = image_to_msg(make_image(), "rgb8", header)
    info = camera_to_msg(PinholeCamera.centered(500.0, WIDTH, HEIGHT), header)
    due = time.perf_counter()
    while rclpy.ok():
        header.stamp = node.get_clock().now().to_msg()
        images.publish(message)
        infos.publish(info)
        due = max(due + 1.0 / rate, time.perf_counter() - 0.05)
        time.sleep(max(0.0, due - time.perf_counter()))


class Receiver(Node):
    """Records depth images, their calibrations, and the network's time as the node reports it."""

    def __init__(self) -> None:
        super().__init__("receiver")
        self.latencies: list[float] = []
        self.model_times: list[float] = []
        self.stamps: dict[str, set[int]] = {"depth": set(), "best effort": set(), "camera_info": set()}
        self.create_subscription(Image, "depth/image", self._on_depth, OUTPUT)
        for name, kind, topic, profile in (
            ("best effort", Image, "depth/image", qos_profile_sensor_data),
            ("camera_info", CameraInfo, "depth/camera_info", OUTPUT),
        ):
            stamps = self.stamps[name]
            self.create_subscription(
                kind, topic, lambda message, add=stamps.add: add(nanoseconds(message.header.stamp)), profile
            )
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_depth(self, message: Image) -> None:
        now, stamp = self.get_clock().now().nanoseconds, nanoseconds(message.header.stamp)
        self.latencies.append((now - stamp) * 1e-9)
        self.stamps["depth"].add(stamp)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if "model time median (ms)" in values:
                self.model_times.append(float(values["model time median (ms)"]) * 1e-3)

    def clear(self) -> None:
        self.latencies.clear()
        self.model_times.clear()
        for stamps in self.stamps.values():
            stamps.clear()

    def share(self, name: str) -> float:
        """Return the share of the depth images whose stamps another topic has, but for the last one."""
        depth = sorted(self.stamps["depth"])[:-1]
        return sum(stamp in self.stamps[name] for stamp in depth) / max(1, len(depth))


@contextmanager
def process(*command: str):
    """Run a Python process that ends with the block."""
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            child.kill()
            raise


def run_node(**parameters: object):
    arguments = parameter_arguments(parameters)
    return process("-m", "redepth_ros.nodes.redepth_node", "--ros-args", *arguments)


def run_camera_process(rate: float):
    return process(__file__, "--camera", str(rate))


def receive(executor: SingleThreadedExecutor, seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        executor.spin_once(timeout_sec=0.05)


def spin_until(executor: SingleThreadedExecutor, condition, lacking: str) -> None:
    """Spin until a condition holds; exit with the words for its absence after PATIENCE."""
    end = time.perf_counter() + PATIENCE
    while not condition():
        if time.perf_counter() > end:
            sys.exit(f"no {lacking} within {PATIENCE:g} s")
        executor.spin_once(timeout_sec=0.05)


def wait_for_depth(executor: SingleThreadedExecutor, receiver: Receiver) -> None:
    receiver.clear()
    lacking = "depth (does the node start? ./dev run redepth_node)"
    spin_until(executor, lambda: len(receiver.latencies) >= 5, lacking)


def run_bare(model: str, seconds: float, threads: int) -> float:
    """Return the frames per second of the bare network, in a process of its own."""
    options = ["--bare", model, "--seconds", str(seconds), "--threads", str(threads)]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure_load(executor: SingleThreadedExecutor, receiver: Receiver, rate: float, options) -> dict:
    """Measure what arrives of a camera of a rate, and what it costs the node."""
    with run_node(model=options.model, threads=options.threads) as node, run_camera_process(rate):
        wait_for_depth(executor, receiver)
        receive(executor, 2.0)
        receiver.clear()
        usage, start = psutil.Process(node.pid).cpu_times(), time.perf_counter()
        receive(executor, options.seconds)
        elapsed, now = time.perf_counter() - start, psutil.Process(node.pid).cpu_times()
    latencies = receiver.latencies or [math.nan]
    return {
        "rate": len(receiver.latencies) / elapsed,
        "latency_ms": statistics.median(latencies) * 1e3,
        "best_effort": receiver.share("best effort"),
        "camera_info": receiver.share("camera_info"),
        "cpu_ms": (now.user + now.system - usage.user - usage.system) / len(latencies) * 1e3,
    }


def measure_round(
    executor: SingleThreadedExecutor, receiver: Receiver, model: str, seconds: float, threads: int
) -> dict:
    """Measure the bare rate, the node's rate and the latency that it adds, one after the other."""
    bare = run_bare(model, seconds, threads)
    with run_node(model=model, threads=threads):
        with run_camera_process(1.15 * bare):
            wait_for_depth(executor, receiver)
            receive(executor, 2.0)
            receiver.clear()
            start = time.perf_counter()
            receive(executor, seconds)
            rate = len(receiver.latencies) / (time.perf_counter() - start)
        with run_camera_process(0.4 * bare):
            wait_for_depth(executor, receiver)
            receive(executor, 6.0)  # the node reports the median of its last five seconds
            receiver.clear()
            receive(executor, seconds)
            added = statistics.median(receiver.latencies) - statistics.median(receiver.model_times)
    return {"bare": bare, "node": rate, "ratio": rate / bare, "added_ms": added * 1e3}


def save_trivial_model(folder: str) -> None:
    """Save a network of a few thousand weights, so that only the node itself is measured."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=14,
        reassemble_hidden_size=16,
        fusion_hidden_size=8,
        neck_hidden_sizes=[4, 8, 8, 8],
        head_hidden_size=4,
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(folder)


def measure_memory(executor: SingleThreadedExecutor, receiver: Receiver, frames: int) -> dict:
    """Measure the resident memory after a tenth of the frames and at the end, MiB."""
    with tempfile.TemporaryDirectory() as folder:
        save_trivial_model(folder)
        with run_node(model=folder, input_size=28) as node, run_camera_process(60.0):
            wait_for_depth(executor, receiver)
            receiver.clear()
            marks = []
            for goal in (frames // 10, frames):
                while (count := len(receiver.latencies)) < goal:
                    spin_until(executor, lambda count=count: len(receiver.latencies) > count, "more depth")
                marks.append(psutil.Process(node.pid).memory_info().rss / 2**20)
    return {"frames": frames, "early_mib": marks[0], "late_mib": marks[1], "growth_mib": marks[1] - marks[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--rounds", type=int, default=5, help="of bare network and node; 0 skips them")
    parser.add_argument("--seconds", type=float, default=8.0, help="duration of each measurement")
    parser.add_argument("--frames", type=int, default=5000, help="of the memory measurement; 0 skips it")
    parser.add_argument("--threads", type=int, default=0, help="of the network; 0: one per core")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    parser.add_argument("--camera", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(measure_bare(options.bare, options.seconds, options.threads))
        return
    if options.camera:
        run_camera(options.camera)
        return

    console = Console()
    rclpy.init()
    receiver, executor = Receiver(), SingleThreadedExecutor()
    executor.add_node(receiver)
    rounds: list[dict] = []
    for number in range(options.rounds):
        console.print(f"round {number + 1} of {options.rounds} ...")
        rounds.append(measure_round(executor, receiver, options.model, options.seconds, options.threads))
    results: dict = {"rounds": rounds}
    if rounds:
        medians = {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        print_rounds(console, options.model, rounds, medians)
        results["median"] = medians
    bare = run_bare(options.model, options.seconds, options.threads)
    results["loads"] = {f"{rate:g}": measure_load(executor, receiver, rate, options) for rate in LOADS}
    print_loads(console, bare, results["loads"])
    if options.frames:
        results["memory"] = memory = measure_memory(executor, receiver, options.frames)
        console.print(
            f"memory of a node with a trivial network: {memory['early_mib']:.1f} MiB after "
            f"{options.frames // 10} frames, {memory['late_mib']:.1f} MiB after {options.frames}"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    rclpy.shutdown()


def print_loads(console: Console, bare: float, loads: dict[str, dict]) -> None:
    """Print a table of the loads."""
    title = f"cameras of several rates; bare network {bare:.1f} Hz"
    columns = ("camera (Hz)", "depth (Hz)", "latency (ms)", "best effort", "camera_info", "CPU a frame (ms)")
    table = Table(*columns, title=title)
    for name, load in loads.items():
        texts = [f"{load[key]:.{digits}f}" for key, digits in (("rate", 1), ("latency_ms", 0))]
        texts += [f"{load[key]:.3f}" for key in ("best_effort", "camera_info")]
        table.add_row(name.replace("inf", "no limit"), *texts, f"{load['cpu_ms']:.1f}")
    console.print(table)


def print_rounds(console: Console, model: str, rounds: list[dict], medians: dict) -> None:
    """Print a table of the rounds and their medians."""
    title = f"model {model}, {WIDTH} x {HEIGHT}"
    table = Table("round", "bare (Hz)", "node (Hz)", "node / bare", "added latency (ms)", title=title)
    names = [str(number) for number in range(1, len(rounds) + 1)]
    for name, one in zip([*names, "median"], [*rounds, medians], strict=True):
        numbers = (
            f"{one['bare']:.1f}",
            f"{one['node']:.1f}",
            f"{one['ratio']:.3f}",
            f"{one['added_ms']:.2f}",
        )
        table.add_row(name, *numbers)
    console.print(table)


if __name__ == "__main__":
    main()
