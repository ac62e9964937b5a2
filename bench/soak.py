#!/usr/bin/env python3
"""A real graph under faults that are injected by chance.

    ./dev bench soak [--minutes 30] [--seed 0] [--json FILE]

redepth_node, refine_server and a camera with measured depth run as processes with the embedded networks, one
CPU thread each. Faults (`bench/soaking/faults.py`) come one after the other, at random times: all of them in
a random order, then again. A full disk is a limit on the process (RLIMIT_FSIZE): every write to a file fails,
that is the log, since the nodes write nothing else.

The rules, of which a broken one makes the exit status 1:

- Every goal has a final state. Goals at a server that is killed are exempt, and those without a response that
  were sent within 10 s of a start or an end of the server, when DDS loses calls.
- No process ends without being told to, and each ends in peace after Ctrl-C.
- Memory and threads are flat: no process grows within one life by more than a limit, beyond
  the first 30 s of its networks.
- Fast depth is never silent for more than 2 s beyond an injected pause. The longest silence of the camera's
  own images, as the monitor sees them, is the control: it shows how often the machine itself stood still.
- Every service call has a response, and no log has a traceback.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random

# Runs on one machine do not meet.
os.environ.setdefault("ROS_DOMAIN_ID", str(51 + os.getpid() % 50))

import rclpy
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.table import Table

from bench.soaking.camera import run_camera
from bench.soaking.faults import FAULTS, Graph, start
from bench.soaking.graph import Child, Monitor
from bench.soaking.rules import MAX_SILENCE, Rule, longest_silence, slope_per_hour, worst_growth
from redepth_ros.ros.parameter_arguments import parameter_arguments

NETWORKS = {"model": "tiny", "device": "cpu", "threads": 1}
NODE = {**NETWORKS, "max_depth": 1000.0, "keyframes": "motion", "anchors": "depth"}
SERVER = {**NETWORKS, "prior": "tiny", "ensemble_size": 1, "steps": 4, "max_depth": 1000.0}

MAX_MEMORY_GROWTH = 20.0
"""MiB within one life of a process."""
MAX_THREAD_GROWTH = 2.0
GOAL_TIMEOUT = 60.0
"""Seconds after the last fault within which every goal has a final state."""


def make_graph(folder: Path) -> Graph:
    """Return the graph; its processes do not run yet."""

    def node(name: str, parameters: dict) -> Child:
        command = ["-m", f"redepth_ros.nodes.{name}", "--ros-args", *parameter_arguments(parameters)]
        return Child(name, command, folder)

    camera = Child("camera", [__file__, "--camera"], folder)
    return Graph(Monitor(), node("redepth_node", NODE), node("refine_server", SERVER), camera)


@contextmanager
def watched(graph: Graph):
    """Watch the processes once a second, and end them with the block."""
    children, ended = (graph.node, graph.server, graph.camera), threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            for child in children:
                child.watch()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        for child in children:
            if child.starts and child.popen.poll() is None:
                child.kill()


def soak(graph: Graph, seconds: float, random: Random, say) -> Counter:
    """Inject faults for some time; return how often each one was injected."""
    counts: Counter = Counter()
    graph.monitor.started_at = start_at = time.monotonic()
    deck: list = []
    while time.monotonic() - start_at < seconds:
        deck = deck or random.sample(FAULTS, len(FAULTS))
        fault = deck.pop()
        counts[fault.__name__] += 1
        say(f"{time.monotonic() - start_at:7.1f} s  {fault.__name__}")
        fault(graph, random)
        revive(graph)
        time.sleep(random.uniform(0.5, 4.0))
    return counts


def revive(graph: Graph) -> None:
    """Start the processes again that were lost, which is reported at the end."""
    for child in (graph.node, graph.server):
        if not child.told_to_run:
            with graph.monitor.pause():
                start(graph, child)
    if not graph.camera.told_to_run:
        graph.camera.start()


def settle(graph: Graph) -> bool:
    """Wait until every goal has its final state, also those of the node; return whether all have."""
    monitor = graph.monitor

    def goals_ended() -> bool:
        monitor.give_up_lost_goals(graph.server.changes)
        return all(goal.final for goal in monitor.goals)

    monitor.set_parameter("redepth_node", "keyframes", "none")
    monitor.wait_until(goals_ended, GOAL_TIMEOUT)
    return monitor.wait_until(lambda: monitor.keyframes[0] == monitor.keyframes[1], GOAL_TIMEOUT)


def judge(graph: Graph, keyframes_ended: bool) -> list[Rule]:
    """Return the rules, with what was measured."""
    monitor, children = graph.monitor, (graph.node, graph.server, graph.camera)
    open_goals = [goal for goal in monitor.goals if not goal.final]
    states = ", ".join(f"{goal.state} at {goal.sent_at - monitor.started_at:.1f} s" for goal in open_goals)
    lost = [f"{child.name} {how}" for child in children for how in child.lost]
    silence, _ = longest_silence(monitor.depths, monitor.pauses)
    rules = [
        Rule("goals without a final state", states or "0", "0", not open_goals),
        Rule("keyframes of the node without an end", f"{monitor.keyframes}", "sent = ended", keyframes_ended),
        Rule("lost processes", "; ".join(lost) or "0", "0", not lost),
        Rule("silence of the fast depth (s)", f"{silence:.2f}", f"{MAX_SILENCE:g}", silence <= MAX_SILENCE),
        Rule(
            "calls without the right response",
            "; ".join(monitor.unanswered) or "0",
            "0",
            not monitor.unanswered,
        ),
    ]
    for child in children:
        found = child.tracebacks()
        memory, threads = worst_growth(child.memory), worst_growth(child.threads)
        rules += [
            Rule(f"{child.name}: tracebacks", f"{found}", "0", not found),
            # NaN, of a run that is too short, is no growth.
            Rule(
                f"{child.name}: growth of memory (MiB)",
                text(memory),
                f"{MAX_MEMORY_GROWTH:g}",
                not memory > MAX_MEMORY_GROWTH,
            ),
            Rule(
                f"{child.name}: growth of threads",
                text(threads),
                f"{MAX_THREAD_GROWTH:g}",
                not threads > MAX_THREAD_GROWTH,
            ),
        ]
    return rules


def describe(child: Child) -> dict:
    """Return what was seen of a process, for the table and the file."""
    memory = [value for life in child.memory for _, value in life]
    return {
        "starts": child.starts,
        "seconds": sum(life[-1][0] - life[0][0] for life in child.memory if life),
        "memory_mib": statistics.median(memory) if memory else math.nan,
        "largest_memory_mib": max(memory, default=math.nan),
        "memory_mib_per_hour": slope_per_hour(child.memory),
        "threads": max((value for life in child.threads for _, value in life), default=math.nan),
        "threads_per_hour": slope_per_hour(child.threads),
        "tracebacks": child.tracebacks(),
        "lost": child.lost,
    }


def text(number: float) -> str:
    """Return a change in words for a table."""
    return "too short" if math.isnan(number) else f"{number:+.1f}"


def print_tables(console: Console, results: dict, rules: list[Rule]) -> None:
    table = Table("fault", "times", title="faults")
    for name, count in sorted(results["faults"].items()):
        table.add_row(name, str(count))
    console.print(table)
    table = Table(
        "process", "starts", "time (s)", "memory (MiB), largest", "MiB / h", "threads", "threads / h"
    )
    for name, one in results["processes"].items():
        table.add_row(
            name,
            str(one["starts"]),
            f"{one['seconds']:.0f}",
            f"{one['memory_mib']:.0f}, {one['largest_memory_mib']:.0f}",
            text(one["memory_mib_per_hour"]),
            f"{one['threads']:.0f}",
            text(one["threads_per_hour"]),
        )
    console.print(table)
    goals = ", ".join(f"{count} {state}" for state, count in sorted(results["goals"].items()))
    console.print(f"goals: {goals}")
    console.print(
        f"messages: {results['images']} images, {results['depths']} fast, {results['refined']} refined; "
        f"longest silence of the camera, the control: {results['silence_of_camera_s']:.2f} s; "
        f"load of the machine: {results['load']:.1f}"
    )
    table = Table("rule", "measured", "limit", "", title="rules")
    for rule in rules:
        table.add_row(rule.name, rule.measured, rule.limit, "kept" if rule.kept else "BROKEN")
    console.print(table)


def run(options: argparse.Namespace, folder: Path) -> bool:
    """Soak, print and write the results; return whether all rules were kept."""
    console = Console()
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    graph = make_graph(folder)
    with watched(graph):
        graph.camera.start()
        start(graph, graph.node, graph.server)
        monitor = graph.monitor
        if not monitor.wait_until(lambda: bool(monitor.depths), 60.0):
            sys.exit(f"no depth within 60 s of the start:\n{graph.node.log_end()}")
        faults = soak(graph, 60.0 * options.minutes, Random(options.seed), console.print)
        monitor.depths.append(time.monotonic())  # the silence that lasts
        keyframes_ended = settle(graph)
        for child in (graph.node, graph.server):
            child.interrupt()
        rules = judge(graph, keyframes_ended)
        results = {
            "seed": options.seed,
            "minutes": options.minutes,
            "faults": dict(faults),
            "goals": dict(Counter(goal.state for goal in monitor.goals)),
            "images": len(monitor.images),
            "depths": len(monitor.depths),
            "refined": monitor.refined,
            "silence_of_camera_s": longest_silence(monitor.images, monitor.pauses)[0],
            "load": os.getloadavg()[2],
            "processes": {one.name: describe(one) for one in (graph.node, graph.server, graph.camera)},
            "rules": [vars(rule) for rule in rules],
        }
    monitor.close()
    print_tables(console, results, rules)
    for child in (graph.node, graph.server, graph.camera):
        if child.lost:
            console.print(f"{child.name} wrote last:\n{child.log_end()}", markup=False)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    rclpy.try_shutdown()
    return all(rule.kept for rule in rules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", type=Path, help="folder for the output of the processes (default: dropped)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--camera", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.camera:
        run_camera()
        return
    with tempfile.TemporaryDirectory() as folder:
        place = options.logs or Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        kept = run(options, place)
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
