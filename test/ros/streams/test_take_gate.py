"""The rate at which messages are taken."""

import time

import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import Graph
from rclpy.parameter import Parameter

from redepth_ros.ros.streams import take_gate
from redepth_ros.ros.streams.take_gate import TakeGate


@pytest.fixture
def graph(ros):
    graph = Graph(rclpy.create_node("gate", namespace="/gate"))
    yield graph
    graph.close()


def test_a_burst_closes_the_gate_for_the_rest_of_a_period(graph, monkeypatch):
    monkeypatch.setattr(take_gate, "PERIOD", 0.2)
    gate = TakeGate(graph.nodes[0], burst=2)
    for _ in range(3):
        began = time.monotonic()
        assert gate.can_execute(None)
        gate.took()
        assert gate.can_execute(None)
        gate.took()
        assert not gate.can_execute(None)
        assert graph.until(lambda: gate.can_execute(None))
        assert time.monotonic() - began >= 0.2
    gate.destroy()
    assert not list(graph.nodes[0].timers)


def test_a_clock_that_stands_still_does_not_keep_the_gate_closed(ros):
    """A simulation that is paused, or has not begun."""
    overrides = [Parameter("use_sim_time", value=True)]
    graph = Graph(rclpy.create_node("gate", namespace="/gate", parameter_overrides=overrides))
    gate = TakeGate(graph.nodes[0], burst=1)
    gate.took()
    assert graph.until(lambda: gate.can_execute(None))
    graph.close()
