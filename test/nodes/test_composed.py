"""Both nodes in one process."""

import pytest

pytest.importorskip("rclpy")

from redepth_ros.nodes import composed
from redepth_ros.nodes.redepth_node import RedepthNode
from redepth_ros.nodes.refine_server import RefineServer


def test_composed_spins_both_nodes(monkeypatch):
    spun = []
    monkeypatch.setattr(composed, "spin", lambda nodes, arguments: spun.append((nodes, arguments)))
    composed.main(["--ros-args"])
    assert spun == [([RedepthNode, RefineServer], ["--ros-args"])]
