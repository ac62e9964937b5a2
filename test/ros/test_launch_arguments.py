"""Launch arguments are typed, and described with the defaults of the settings."""

import sys
import types
from pathlib import Path

import pytest

from redepth_ros.nodes.settings import DepthSettings, ServerSettings
from redepth_ros.ros.launch_arguments import Argument, declare_arguments, parse_arguments

PARAMS_FILE = Path(__file__).parents[2] / "config" / "redepth.yaml"


@pytest.fixture(autouse=True)
def _no_launch(monkeypatch):
    """Replace the parts of launch that are used; launch is not on PyPI."""

    class LaunchConfiguration:
        def __init__(self, name, default):
            self.name, self.default = name, default

        def perform(self, context):
            return context.get(self.name, self.default)

    actions = types.SimpleNamespace(
        DeclareLaunchArgument=lambda name, **options: types.SimpleNamespace(name=name, **options)
    )
    monkeypatch.setitem(sys.modules, "launch", types.ModuleType("launch"))
    monkeypatch.setitem(sys.modules, "launch.actions", actions)
    substitutions = types.SimpleNamespace(LaunchConfiguration=LaunchConfiguration)
    monkeypatch.setitem(sys.modules, "launch.substitutions", substitutions)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("True", True),
        ("1", True),
        ("yes", True),
        ("on", True),
        ("false", False),
        ("FALSE", False),
        ("0", False),
        ("no", False),
        ("off", False),
        ("", None),
    ],
)
def test_booleans_are_parsed(text, value):
    assert Argument("", kind=bool).parse("rviz", text) is value


@pytest.mark.parametrize(
    ("argument", "text", "message"),
    [
        (Argument("", kind=bool), "perhaps", "depth_node is 'perhaps'; it must be true or false"),
        (Argument("", kind=bool), "2", "depth_node is '2'; it must be true or false"),
        (Argument("", kind=float), "far", "depth_node is 'far'; it must be a number"),
        (Argument("", kind=float), "nan", "depth_node is 'nan'; it must be a number"),
        (Argument("", kind=int), "1.5", "depth_node is '1.5'; it must be an integer"),
        (Argument("", choices=("a", "b")), "c", "depth_node is 'c'; it must be one of: a, b"),
    ],
)
def test_an_invalid_value_is_reported_with_the_name_of_its_argument(argument, text, message):
    with pytest.raises(ValueError, match="depth_node") as caught:
        argument.parse("depth_node", text)
    assert str(caught.value) == message


def test_values_come_from_the_context_or_else_from_the_default():
    arguments = {
        "image": Argument("", "image"),
        "max_range": Argument("", "8.0", kind=float),
        "queue": Argument("", "60", kind=int),
        "max_age": Argument("", kind=float),
        "model": Argument(""),
    }
    defaults = {"image": "image", "max_range": 8.0, "queue": 60, "max_age": None, "model": ""}
    assert parse_arguments(arguments, {}) == defaults
    assert parse_arguments(arguments, dict.fromkeys(arguments, "")) == defaults
    given = {"image": "/camera", "max_range": "5", "queue": "7", "max_age": "0", "model": "tiny"}
    expected = {"image": "/camera", "max_range": 5.0, "queue": 7, "max_age": 0.0, "model": "tiny"}
    assert parse_arguments(arguments, given) == expected


def test_descriptions_name_choices_and_the_default_of_the_parameter():
    arguments = {
        "stack": Argument("Mapping stack.", "rtabmap", choices=("rtabmap", "octomap")),
        "model": Argument("Model.", nodes=("redepth_node", "refine_server")),
        "max_age": Argument("Age.", kind=float, nodes=("refine_server",)),
    }
    stack, model, max_age = declare_arguments(arguments, PARAMS_FILE)
    assert (stack.name, stack.default_value) == ("stack", "rtabmap")
    assert stack.description == "Mapping stack. One of: rtabmap, octomap."
    assert (model.name, model.default_value) == ("model", "")
    assert model.description == f"Model. Default from params_file: {DepthSettings().model!r}."
    assert max_age.description == f"Age. Default from params_file: {ServerSettings().max_age!r}."
