"""Parameters of a node on its command line."""

from __future__ import annotations

import json
from collections.abc import Mapping

__all__ = ["parameter_arguments"]


def parameter_arguments(values: Mapping[str, object]) -> list[str]:
    """Return the command line that gives parameters to a node, after `--ros-args`.

    rcl reads each value as YAML, of which JSON is a part: a path may contain " #" or ": ", and a string may
    look like a number.
    """
    return [
        word
        for name, value in values.items()
        for word in ("-p", f"{name}:={json.dumps(value, ensure_ascii=False, default=str)}")
    ]
