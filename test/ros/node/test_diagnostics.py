"""One status is composed of the health of all parts."""

import types

import pytest

pytest.importorskip("rclpy")

import torch
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.time import Time

from redepth_ros.ros.node.diagnostics import Diagnostics, Health


class Node:
    """A node that keeps what is published."""

    def __init__(self):
        self.published = []

    def get_fully_qualified_name(self):
        return "/robot/redepth_node"

    def get_clock(self):
        return types.SimpleNamespace(now=lambda: Time(seconds=12))

    def create_publisher(self, kind, topic, depth):
        assert (kind, topic) == (DiagnosticArray, "/diagnostics")
        return types.SimpleNamespace(publish=self.published.append)


def published(*healths, device=None):
    """Return the status for the healths of parts."""
    node = Node()
    diagnostics = Diagnostics(node, "fast depth")
    for index, health in enumerate(healths):
        diagnostics.add(f"part {index}", health if callable(health) else lambda health=health: health)
    diagnostics.publish(device)
    (array,) = node.published
    assert array.header.stamp.sec == 12
    (status,) = array.status
    return status, {value.key: value.value for value in status.values}


def test_status_has_the_name_of_the_node_and_the_values_of_all_parts():
    status, values = published(Health(values={"rate in (Hz)": "3.00"}), Health(message="ok", values={"n": 4}))
    assert (status.name, status.level) == ("robot/redepth_node: fast depth", DiagnosticStatus.OK)
    assert (status.message, status.hardware_id) == ("ok", "")
    assert list(values) == ["rate in (Hz)", "n", "memory (MiB)"]
    assert (values["n"], float(values["memory (MiB)"]) > 1.0) == ("4", True)


def test_status_is_the_worst_one_and_the_first_of_those():
    status, values = published(
        Health(DiagnosticStatus.OK, "fine", {"a": 1}),
        Health(DiagnosticStatus.WARN, "", {"b": 2}),
        Health(DiagnosticStatus.WARN, "no images"),
        Health(DiagnosticStatus.WARN, "no anchors"),
    )
    assert (status.level, status.message) == (DiagnosticStatus.WARN, "no images")
    assert (values["a"], values["b"]) == ("1", "2")


def test_status_without_parts_is_ok():
    status, values = published()
    assert (status.level, status.message, list(values)) == (DiagnosticStatus.OK, "", ["memory (MiB)"])


def test_a_part_that_raises_is_an_error_and_hides_no_other():
    def fail():
        raise KeyError("rate")

    status, values = published(fail, Health(values={"a": 1}))
    assert status.level == DiagnosticStatus.ERROR
    assert status.message == "diagnostics of 'part 0' failed: KeyError: 'rate'"
    assert values["a"] == "1"


def test_device_is_reported_when_networks_are_loaded():
    status, values = published(device=torch.device("cpu"))
    assert (status.hardware_id, values["device"]) == ("cpu", "cpu")
    assert "memory on the device (MiB)" not in values
