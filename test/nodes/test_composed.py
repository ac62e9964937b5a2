"""Both nodes in one process."""

import threading

import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import PATIENCE, FakeCamera, FakeRedepthNode, FakeRefineServer, Graph
from lifecycle_msgs.msg import State
from sensor_msgs.msg import Image

from redepth_ros.nodes import composed
from redepth_ros.nodes.redepth_node import RedepthNode
from redepth_ros.nodes.refine_server import RefineServer


def test_composed_spins_both_nodes(monkeypatch):
    spun = []
    monkeypatch.setattr(composed, "spin", lambda nodes, arguments: spun.append((nodes, arguments)))
    composed.main(["--ros-args"])
    assert spun == [([RedepthNode, RefineServer], ["--ros-args"])]


class SlowServer(FakeRefineServer):
    """A server that loads until `free` is set."""

    def __init__(self):
        super().__init__()
        self.free = threading.Event()

    def load(self, settings):
        assert self.free.wait(PATIENCE)
        return super().load(settings)


def test_the_fast_node_publishes_while_the_server_in_its_process_loads(ros, set_parameters):
    nodes = [FakeRedepthNode(), SlowServer()]
    other = rclpy.create_node("camera_and_listener")
    graph = Graph(*nodes, other)
    try:
        camera = FakeCamera(other)
        graph.listen(other, Image, "depth/image")
        for node in nodes:
            set_parameters(node, threads=1)
            node.bring_up_soon()
        assert graph.until(lambda: camera.send() and graph.received["depth/image"])
        assert nodes[1]._state_machine.current_state[0] == State.TRANSITION_STATE_CONFIGURING
        nodes[1].free.set()
        assert graph.until(lambda: nodes[1].active)
    finally:
        nodes[1].free.set()
        graph.close()
