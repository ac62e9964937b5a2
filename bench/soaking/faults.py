"""The faults of the soak. Each one is a function of the graph and a random generator."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from random import Random

from redepth_interfaces.action import RefineDepth

from bench.soaking.camera import NORMAL
from bench.soaking.graph import Child, Monitor

__all__ = ["FAULTS", "Fault", "Graph", "start"]

START_TIMEOUT = 300.0
"""Seconds within which a node is active after its start, also on a busy machine."""


@dataclass(frozen=True)
class Graph:
    """Where the faults are injected."""

    monitor: Monitor
    node: Child
    server: Child
    camera: Child


Fault = Callable[[Graph, Random], None]

CHANGES: dict[str, dict[str, tuple]] = {
    "redepth_node": {
        "input_size": (84, 112, 168),
        "max_depth": (3.0, 50.0, 1000.0),
        "max_relative_stddev": (0.0, 0.3),
        "max_relative_gradient": (0.0, 0.1),
        "depth_encoding": ("32FC1", "16UC1"),
        "keyframes": ("interval", "motion", "all"),
        "keyframe_min_interval": (0.0, 1.0),
        "fuse_anchors": (True, False),
    },
    "refine_server": {
        "input_size": (84, 112),
        "policy": ("latest", "queue", "reject"),
        "queue_size": (1, 5),
        "steps": (1, 4, 30),
        "ensemble_size": (1, 2),
        "time_budget": (0.0, 0.5),
        "max_age": (0.0, 2.0),
        "preview_period": (0.0, 0.2),
    },
}
"""Parameters that are changed at run time, with their values."""

INVALID = (("max_depth", -1.0), ("input_size", 3), ("model", "another"), ("policy", "oldest"))


def server_killed(graph: Graph, random: Random) -> None:
    """SIGKILL, also in the middle of a goal; then a new server."""
    graph.server.kill()
    graph.monitor.give_up_goals("lost: server killed")
    time.sleep(random.uniform(0.0, 3.0))
    start(graph, graph.server)


def server_interrupted(graph: Graph, random: Random) -> None:
    """Ctrl-C of the server right after a burst of goals, and a restart."""
    _send_goals(graph, random)
    graph.server.interrupt()
    start(graph, graph.server)


def node_interrupted(graph: Graph, random: Random) -> None:
    """Ctrl-C of the node, and a restart."""
    with graph.monitor.pause():
        graph.node.interrupt()
        start(graph, graph.node)


def node_reconfigured(graph: Graph, random: Random) -> None:
    """Deactivate, clean up, configure and activate the node."""
    with graph.monitor.pause():
        _reconfigure(graph, graph.node)


def server_reconfigured(graph: Graph, random: Random) -> None:
    """Deactivate, clean up, configure and activate the server while goals are open."""
    _send_goals(graph, random)
    _reconfigure(graph, graph.server)


def camera_stops(graph: Graph, random: Random) -> None:
    """Send no images for some seconds."""
    with graph.monitor.pause():
        graph.camera.tell(paused=True)
        time.sleep(random.uniform(2.0, 8.0))
        graph.camera.tell(**NORMAL)


def stamps_jump(graph: Graph, random: Random) -> None:
    """Stamps of another time: earlier, later, and far in the future; then right ones again."""
    graph.camera.tell(offset=random.choice((-3600.0, -1.5, 0.5, 60.0, 1.5e8)))
    time.sleep(random.uniform(1.0, 5.0))
    graph.camera.tell(**NORMAL)


def stamps_stand_still(graph: Graph, random: Random) -> None:
    """One stamp for all images, or the stamp 0: they are skipped."""
    with graph.monitor.pause():
        graph.camera.tell(stamp=random.choice((0.0, time.time())))
        time.sleep(random.uniform(1.0, 4.0))
        graph.camera.tell(**NORMAL)


def anchors_lie(graph: Graph, random: Random) -> None:
    """Measured depth in another unit, of another scale, or without a valid pixel."""
    graph.camera.tell(factor=random.choice((0.001, 0.5, 1.5, 30.0, 1000.0, float("nan"))))
    time.sleep(random.uniform(1.0, 6.0))
    graph.camera.tell(**NORMAL)


def disk_full(graph: Graph, random: Random) -> None:
    """Every write of both nodes to a file fails, while they are given reasons to write to the log."""
    with ExitStack() as stack:
        for child in (graph.node, graph.server):
            stack.enter_context(child.no_file_grows())
        for _ in range(3):
            graph.monitor.send_goal(RefineDepth.Goal(preset="unknown"))
            graph.camera.tell(offset=-1.5)
            time.sleep(random.uniform(0.3, 1.5))
            graph.camera.tell(**NORMAL)


def parameters_changed(graph: Graph, random: Random) -> None:
    """Valid changes, which are taken, and invalid ones, which are refused."""
    for node, changes in CHANGES.items():
        for name in random.sample(sorted(changes), 3):
            value = random.choice(changes[name])
            if graph.monitor.set_parameter(node, name, value) is False:
                graph.monitor.unanswered.append(f"{node} refuses {name} = {value}")
    name, value = random.choice(INVALID)
    if graph.monitor.set_parameter("refine_server", name, value):
        graph.monitor.unanswered.append(f"refine_server takes {name} = {value}")


def goals_in_bursts(graph: Graph, random: Random) -> None:
    """Many goals at once, some of them invalid, some cancelled."""
    records = _send_goals(graph, random)
    time.sleep(random.uniform(0.0, 0.3))
    for record in random.sample(records, len(records) // 3):
        if record.handle is not None and not record.final:
            record.handle.cancel_goal_async()


def frame_requested(graph: Graph, random: Random) -> None:
    """Goals that name a stamp which the node does not have."""
    for _ in range(3):
        goal = RefineDepth.Goal(steps=1)
        goal.stamp.sec = random.randrange(1, 2**31)
        graph.monitor.send_goal(goal)


FAULTS: tuple[Fault, ...] = (
    server_killed,
    server_interrupted,
    node_interrupted,
    node_reconfigured,
    server_reconfigured,
    camera_stops,
    stamps_jump,
    stamps_stand_still,
    anchors_lie,
    disk_full,
    parameters_changed,
    goals_in_bursts,
    frame_requested,
)


def start(graph: Graph, *children: Child) -> None:
    """Start nodes, and wait until they are active."""
    for child in children:
        child.start()
    for child in children:
        if graph.monitor.wait_for_state(child.name, "active", START_TIMEOUT):
            child.forget_start()
        elif child.told_to_run:
            child.lost.append(f"not active within {START_TIMEOUT:g} s of its start")


def _reconfigure(graph: Graph, child: Child) -> None:
    for name, label in (
        ("deactivate", "inactive"),
        ("cleanup", "unconfigured"),
        ("configure", "inactive"),
        ("activate", "active"),
    ):
        graph.monitor.transition(child.name, name, label)


def _send_goals(graph: Graph, random: Random) -> list:
    presets = ("", "", "", "default", "unknown")
    return [
        graph.monitor.send_goal(
            RefineDepth.Goal(steps=random.choice((1, 5, 50)), preset=random.choice(presets))
        )
        for _ in range(random.randint(3, 20))
    ]
