#!/usr/bin/env python3
"""Fast depth while a refinement runs, compared with fast depth alone.

    ./dev bench under_refinement [--rounds 2] [--seconds 8] [--rate 10] [--threads 1] [--json FILE]

In each round and for each layout (two processes; both nodes in one, redepth_composed) a camera sends
640 x 480 images, and the depth images are counted: first with an idle server, then with a server that
refines one goal after the other. A camera that is faster than the node shows the rates, a slower one
the latencies. The overhead is the time from a keyframe's stamp to its refined depth minus the time of the
refinement itself, with goals of one step.
"""

from __future__ import annotations

import argparse
import json
import statistics
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from redepth_interfaces.action import RefineDepth
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image

from bench.node_overhead import (
    Receiver,
    process,
    receive,
    run_camera_process,
    spin_until,
    wait_for_depth,
)
from redepth_ros.ros.msgs.time import nanoseconds, seconds_from_duration
from redepth_ros.ros.parameter_arguments import parameter_arguments

LAYOUTS = {"two processes": ("redepth_node", "refine_server"), "one process": ("composed",)}


class Requester(Receiver):
    """Receives depth and, on demand, sends goals without a pause."""

    def __init__(self) -> None:
        super().__init__()
        self.client = ActionClient(self, RefineDepth, "refine")
        self.steps = 0
        self._due = False
        self.goals = 0
        self.at_work = False
        """Whether the server has accepted a goal that has not ended."""
        self.beyond: list[float] = []
        """Seconds from stamp to refined depth, minus those of the refinement itself."""
        self._refined: dict[int, int] = {}
        self.create_subscription(Image, "refined/depth", self._on_refined, 10)

    def begin(self, steps: int) -> None:
        """Send goals of `steps` steps, one after the other, until `steps` is 0 again."""
        self.steps = steps
        self._due = bool(steps)

    def _on_depth(self, message: Image) -> None:
        """Send a goal when the node would send it: with the fast depth of its frame."""
        super()._on_depth(message)
        if self._due:
            self._due = False
            goal = RefineDepth.Goal(steps=self.steps, stamp=message.header.stamp)
            self.client.send_goal_async(goal).add_done_callback(self._accepted)

    def _accepted(self, future) -> None:
        self.at_work = future.result().accepted
        if self.at_work:
            future.result().get_result_async().add_done_callback(self._ended)
        else:
            self.begin(self.steps)

    def _ended(self, future) -> None:
        result = future.result().result
        self.goals += 1
        self.at_work = False
        stamp = nanoseconds(result.depth.header.stamp)
        arrived = self._refined.get(stamp)
        if arrived:
            self.beyond.append((arrived - stamp) * 1e-9 - seconds_from_duration(result.elapsed))
        self.begin(self.steps)

    def _on_refined(self, message: Image) -> None:
        self._refined[nanoseconds(message.header.stamp)] = self.get_clock().now().nanoseconds


def measure(executor: SingleThreadedExecutor, requester: Requester, seconds: float) -> dict[str, float]:
    requester.clear()
    receive(executor, seconds)
    latencies = requester.latencies
    return {"rate": len(latencies) / seconds, "p95_ms": float(np.percentile(latencies, 95)) * 1e3}


def run_layout(modules: tuple[str, ...], options: argparse.Namespace, rate: float) -> dict[str, float]:
    """Measure with an idle and with a busy server, in processes that end afterwards."""
    executor = SingleThreadedExecutor()
    requester = Requester()
    executor.add_node(requester)
    settings = {"model": "tiny", "prior": "tiny", "threads": options.threads, "keyframes": "none"}
    arguments = parameter_arguments(settings)
    try:
        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(process("-m", f"redepth_ros.nodes.{module}", "--ros-args", *arguments))
            stack.enter_context(run_camera_process(rate))
            wait_for_depth(executor, requester)
            spin_until(executor, requester.client.server_is_ready, "action server")
            requester.begin(1)
            spin_until(executor, lambda: requester.goals, "refined goal")
            requester.beyond.clear()
            receive(executor, options.seconds / 2)
            beyond = statistics.median(requester.beyond) if requester.beyond else float("nan")
            requester.steps = 0
            receive(executor, 2.0)
            idle = measure(executor, requester, options.seconds)
            requester.begin(100_000)
            spin_until(executor, lambda: requester.at_work, "goal at work")
            receive(executor, 1.5)
            busy = measure(executor, requester, options.seconds)
    finally:
        requester.client.destroy()
        executor.shutdown()
        requester.destroy_node()
    return {
        "idle_rate": idle["rate"],
        "busy_rate": busy["rate"],
        "rate_ratio": busy["rate"] / idle["rate"],
        "idle_p95_ms": idle["p95_ms"],
        "busy_p95_ms": busy["p95_ms"],
        "p95_ratio": busy["p95_ms"] / idle["p95_ms"],
        "beyond_ms": beyond * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rate", type=float, default=10.0, help="of the slower camera, Hz")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each node")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    console = Console()
    rclpy.init()
    results: dict[str, list[dict[str, float]]] = {}
    title = f"{options.threads} threads each, medians of {options.rounds} rounds"
    columns = ("layout", "camera", "rate idle", "busy", "ratio", "p95 idle", "busy", "ratio", "overhead")
    table = Table(*columns, title=title)
    for rate in (options.rate, 60.0):
        for name, modules in LAYOUTS.items():
            rows = []
            for number in range(options.rounds):
                console.print(f"{name}, camera of {rate:g} Hz, round {number + 1} ...")
                rows.append(run_layout(modules, options, rate))
            results[f"{name}, {rate:g} Hz"] = rows
            median = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
            rates = (
                f"{median['idle_rate']:.1f} Hz",
                f"{median['busy_rate']:.1f} Hz",
                f"{median['rate_ratio']:.2f}",
            )
            latencies = (f"{median['idle_p95_ms']:.0f} ms", f"{median['busy_p95_ms']:.0f} ms")
            ends = (f"{median['p95_ratio']:.2f}", f"{median['beyond_ms']:.0f} ms")
            table.add_row(name, f"{rate:g} Hz", *rates, *latencies, *ends)
    console.print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    rclpy.shutdown()


if __name__ == "__main__":
    main()
