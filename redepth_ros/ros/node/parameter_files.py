"""Mistakes in parameter files: where they are, and the likely correction."""

from __future__ import annotations

import difflib
import itertools
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import yaml
from rclpy.node import Node

__all__ = ["broken_file", "unknown_parameters"]

OF_RCLPY = ("use_sim_time", "start_type_description_service", "qos_overrides")
"""Parameters, or first parts of their names, that rclpy declares itself."""


def broken_file(arguments: Sequence[str] | None) -> str:
    """Return what is wrong with the first parameter file that is not valid YAML; empty if all are.

    Args:
        arguments: command line; None for that of the process.
    """
    for file in _files(arguments):
        try:
            yaml.safe_load(Path(file).read_text())
        except (OSError, UnicodeDecodeError) as error:
            return f"can't read the parameter file {file}: {error}"
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            line = f":{mark.line + 1}" if mark is not None else ""
            return f"parameter file {file}{line} is not valid YAML: {error.problem}"
        except Exception as error:  # PyYAML raises many kinds for values that do not fit their tags
            return f"parameter file {file} is not valid YAML: {error}"
    return ""


def unknown_parameters(
    node: Node, arguments: Sequence[str] | None = None, known: Collection[str] = ()
) -> list[str]:
    """Return a message for each parameter that was given to a node which does not have it.

    Args:
        node: has declared its parameters.
        arguments: command line; None for that of the process.
        known: parameters of other nodes, which a file for several nodes gives to all of them.
    """
    declared = {parameter.name for parameter in node.get_parameters_by_prefix("").values()}
    return [
        _unknown(name, declared, arguments)
        for name in node._parameter_overrides
        if name not in declared and name not in known and name.split(".")[0] not in OF_RCLPY
    ]


def _unknown(name: str, declared: Collection[str], arguments: Sequence[str] | None) -> str:
    near = difflib.get_close_matches(name, declared, 1)
    remedy = f"did you mean {near[0]}?" if near else "see docs/reference/parameters.md"
    return f"unknown parameter {name}{_place(name, arguments)} is ignored; {remedy}"


def _place(name: str, arguments: Sequence[str] | None) -> str:
    """Return in which line of which file a parameter is given; empty if it is in none."""
    key = re.compile(rf"""\s*['"]?{re.escape(name)}['"]?\s*:""")
    for file in _files(arguments):
        for number, line in enumerate(Path(file).read_text().splitlines(), 1):
            if key.match(line):
                return f" ({file}:{number})"
    return ""


def _files(arguments: Sequence[str] | None) -> list[str]:
    """Return the parameter files of a command line."""
    words = list(sys.argv if arguments is None else arguments)
    return [file for option, file in itertools.pairwise(words) if option == "--params-file"]
