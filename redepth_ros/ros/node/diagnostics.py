"""The status of a node on /diagnostics, composed of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from redepth_ros.ros.node.process import resident_bytes

__all__ = ["Diagnostics", "Health"]


@dataclass(frozen=True)
class Health:
    """State of one part of a node."""

    level: bytes = DiagnosticStatus.OK
    """`DiagnosticStatus.OK`, `WARN` or `ERROR`."""
    message: str = ""
    """The state in words; empty if there is nothing to say."""
    values: Mapping[str, object] = field(default_factory=dict)
    """Further facts, by the keys under which they are published."""


class Diagnostics:
    """Publish one status, composed of the health of each part of a node.

    Args:
        node: the node.
        title: follows the node's name in the name of the status.
    """

    def __init__(self, node: Node, title: str) -> None:
        self._node = node
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: {title}"
        self._tasks: dict[str, Callable[[], Health]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def add(self, name: str, task: Callable[[], Health]) -> None:
        """Add a task, or replace the one of this name.

        Args:
            name: name of the task, for the message if it raises.
            task: called at each `publish`, in the order in which tasks were added.
        """
        self._tasks[name] = task

    def publish(self, device: torch.device | None = None) -> None:
        """Run all tasks and publish the worst level, its message, and the values of all.

        If several tasks report the worst level, the first one that has a message is quoted.

        Args:
            device: device of the networks if they are loaded; adds the memory used there.
        """
        healths = [self._run(name, task) for name, task in self._tasks.items()]
        worst = max(healths, key=lambda health: (health.level, bool(health.message)), default=Health())
        status = DiagnosticStatus(name=self._name, level=worst.level, message=worst.message)
        values: dict[str, object] = {}
        for health in healths:
            values |= health.values
        values["memory (MiB)"] = f"{resident_bytes() / 2**20:.0f}"
        if device is not None:
            status.hardware_id = values["device"] = str(device)
            if device.type == "cuda":
                values["memory on the device (MiB)"] = f"{torch.cuda.memory_allocated(device) / 2**20:.0f}"
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        report = DiagnosticArray(status=[status])
        report.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(report)

    @staticmethod
    def _run(name: str, task: Callable[[], Health]) -> Health:
        try:
            return task()
        except Exception as error:  # a faulty task must not end the process
            return Health(
                DiagnosticStatus.ERROR, f"diagnostics of {name!r} failed: {type(error).__name__}: {error}"
            )
