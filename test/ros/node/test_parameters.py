"""Parameters that together can not be."""

import dataclasses

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from redepth_ros.cli.main import main
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import PRESETS
from redepth_ros.nodes.settings import DepthSettings, ServerSettings
from redepth_ros.ros.node.parameters import Parameters


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


def test_a_wrong_value_at_start_is_told_with_what_is_allowed(ros):
    wrong = {"transport": "x", "input_size": 64.5, "device": 3}
    node = Node("wrong", parameter_overrides=[Parameter(name, value=value) for name, value in wrong.items()])
    try:
        declared = Parameters(node, DepthSettings, is_fixed=lambda: False, remedy="", changed=lambda _: None)
        with pytest.raises(ConfigError) as caught:
            declared.settings()
    finally:
        node.destroy_node()
    device, size, transport = str(caught.value).split("; parameter ")
    assert transport == "transport is 'x'; it must be one of: raw, compressed"
    assert size.startswith("input_size: ")
    assert size.endswith("; it must be from 0 to 4096 pixels")
    assert device.startswith("parameter device: ")
    assert device.endswith("; it must be of type str")


@pytest.mark.parametrize("command", [["request"], ["refine", "picture.png"]])
@pytest.mark.parametrize("budget", ["-3", "nan", "inf", "soon"])
def test_a_time_budget_of_the_command_that_is_none_is_refused(command, budget, capsys):
    with pytest.raises(SystemExit):
        main([*command, f"--time-budget={budget}"])
    assert f"'{budget}' is not a number of seconds from 0 on" in capsys.readouterr().err
