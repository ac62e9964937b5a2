"""Parameters that together can not be."""

import dataclasses

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine_settings import PRESETS
from redepth_ros.nodes.settings import DepthSettings, ServerSettings
from redepth_ros.ros.parameters import Parameters


@pytest.fixture
def node(ros):
    node = Node("parameters", parameter_overrides=[Parameter("min_depth", value=200.0)])
    yield node
    node.destroy_node()


def test_values_that_contradict_each_other_are_reported_until_they_are_set_right(node):
    adopted = []
    declared = Parameters(node, DepthSettings, is_fixed=lambda: False, remedy="", changed=adopted.append)
    with pytest.raises(ConfigError, match=r"min_depth is 200\.0 m and max_depth 100\.0 m"):
        declared.settings()
    assert not node.set_parameters([Parameter("max_depth", value=150.0)])[0].successful
    assert node.set_parameters([Parameter("max_depth", value=300.0)])[0].successful
    assert declared.settings().max_depth == 300.0
    assert adopted == [declared.settings()]


def test_who_uses_them_can_refuse_them(node):
    def refuse(settings):
        raise ConfigError("not now")

    declared = Parameters(node, DepthSettings, is_fixed=lambda: False, remedy="", changed=refuse)
    result = node.set_parameters([Parameter("max_depth", value=300.0)])[0]
    assert (result.successful, result.reason) == (False, "not now")
    with pytest.raises(ConfigError, match="200"):
        declared.settings()


def test_another_preset_keeps_what_the_server_says_of_steps_and_members():
    server = ServerSettings(steps=7, members=2, seed=5, preset="fast")
    asked = {"steps": 7, "members": 2, "seed": 5}
    assert server.refinement(knows_light=True) == dataclasses.replace(PRESETS["fast"], **asked)
    paper = server.refinement(knows_light=True, preset="paper")
    assert paper == dataclasses.replace(PRESETS["paper"], **asked)
    with pytest.raises(ConfigError, match="preset is 'slow'; it must be one of: fast, paper"):
        server.refinement(knows_light=True, preset="slow")
