"""Arguments of the launch files: typed, checked, and described with their real defaults."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

__all__ = ["COMMON", "Argument", "declare_arguments", "parse_arguments"]

BOOLEANS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


@dataclass(frozen=True)
class Argument:
    """A launch argument.

    An argument with `nodes` sets the parameter of its name in these nodes. If it is empty, the
    params_file sets the parameter.
    """

    description: str
    default: str = ""
    """Default as the user would write it; empty for none."""
    kind: type = str
    """str, bool, int or float."""
    choices: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    """Nodes whose parameter of the same name the argument sets."""

    def parse(self, name: str, text: str) -> Any:
        """Return the value of a text; None if text and default are empty.

        Raises:
            ValueError: names argument and text.
        """
        text = text or self.default
        if not text and self.kind is not str:
            return None
        if self.choices and text not in self.choices:
            raise ValueError(f"{name} is {text!r}; it must be one of: {', '.join(self.choices)}")
        if self.kind is bool:
            if text.strip().lower() not in BOOLEANS:
                raise ValueError(f"{name} is {text!r}; it must be true or false")
            return BOOLEANS[text.strip().lower()]
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or (self.kind is float and not math.isfinite(value)):
            wanted = {int: "an integer", float: "a number"}[self.kind]
            raise ValueError(f"{name} is {text!r}; it must be {wanted}")
        return value


COMMON = {
    "image": Argument("Image topic; with transport:=compressed, <image>/compressed is subscribed.", "image"),
    "namespace": Argument("Namespace of the nodes and of their topics."),
    "use_sim_time": Argument(
        "true takes time from /clock. Default from params_file, or else false.", kind=bool
    ),
}
"""Arguments that redepth.launch.py declares and mapping.launch.py reads, too."""


def declare_arguments(arguments: Mapping[str, Argument], params_file: Path) -> list[Any]:
    """Return a `launch.actions.DeclareLaunchArgument` for each argument.

    Args:
        arguments: by their names.
        params_file: packaged parameters, quoted as the defaults of arguments that set a parameter.
    """
    from launch.actions import DeclareLaunchArgument  # launch is not on PyPI

    sections = yaml.safe_load(params_file.read_text())
    defaults = {name.split("/")[-1]: section["ros__parameters"] for name, section in sections.items()}
    declared = []
    for name, argument in arguments.items():
        text = argument.description
        if argument.choices:
            text += f" One of: {', '.join(argument.choices)}."
        if argument.nodes and not argument.default:
            text += f" Default from params_file: {defaults[argument.nodes[0]][name]!r}."
        declared.append(DeclareLaunchArgument(name, default_value=argument.default, description=text))
    return declared


def parse_arguments(arguments: Mapping[str, Argument], context: Any) -> dict[str, Any]:
    """Return the values of arguments; None for numbers and booleans that are not given.

    Args:
        arguments: by their names.
        context: a `launch.LaunchContext`.

    Raises:
        ValueError: names argument and value.
    """
    from launch.substitutions import LaunchConfiguration

    return {
        name: argument.parse(name, LaunchConfiguration(name, default="").perform(context))
        for name, argument in arguments.items()
    }
