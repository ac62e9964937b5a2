"""What the nodes tell of themselves on /diagnostics."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

from redepth_ros.ros.node.process import resident_bytes

__all__ = ["Diagnostics"]


class Diagnostics:
    """Publishes the state of one part of a node."""

    def __init__(self, node: Node, part: str) -> None:
        self._node = node
        self._name = f"{node.get_fully_qualified_name().lstrip('/')}: {part}"
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def publish(
        self, level: bytes, message: str, values: Mapping[str, object], device: torch.device | None = None
    ) -> None:
        """Publish a state.

        Args:
            level, message: of the status.
            values: what else is known; the process's memory is added.
            device: where the networks are, if anywhere; the memory that they take there is added.
        """
        status = DiagnosticStatus(name=self._name, level=level, message=message)
        known = {**values, "memory (MiB)": f"{resident_bytes() / 2**20:.0f}"}
        if device is not None:
            status.hardware_id = known["device"] = str(device)
            if device.type == "cuda":
                known["memory on the device (MiB)"] = f"{torch.cuda.memory_allocated(device) / 2**20:.0f}"
        status.values = [KeyValue(key=key, value=str(value)) for key, value in known.items()]
        report = DiagnosticArray(status=[status])
        report.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(report)
