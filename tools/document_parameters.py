#!/usr/bin/env python3
"""Write config/redepth.yaml and docs/reference/parameters.md from the settings.

    ./dev run python tools/document_parameters.py

A test compares both files with the output of this script.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from redepth_ros.core.settings import Setting, Settings
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.nodes.settings import DepthSettings, ServerSettings

ROOT = Path(__file__).parents[1]
NODES: dict[str, type[Settings]] = {
    "redepth_node": DepthSettings,
    "refine_server": ServerSettings,
    "camera_player": PlayerSettings,
}


def literal(value: object) -> str:
    """Return a value in YAML's notation."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else repr(value)


def limits(known: Setting) -> str:
    """Return the choices or the range of a parameter."""
    return ", ".join(known.choices) or known.range_text()


def write_yaml() -> str:
    """Return the text of config/redepth.yaml."""
    lines = ["# Every parameter of the nodes at its default."]
    for node, kind in NODES.items():
        lines += ["", f"/**/{node}:", "  ros__parameters:"]
        for one, known in kind.declared():
            text = known.description + (f" Allowed: {limits(known)}." if limits(known) else "")
            lines += [f"    # {line}" for line in wrap(text, 92)]
            lines.append(f"    {one.name}: {literal(one.default)}")
    return "\n".join(lines) + "\n"


def write_markdown() -> str:
    """Return the text of docs/reference/parameters.md."""
    lines = ["# Parameters", "", "Written by `tools/document_parameters.py` from the settings in the code."]
    for node, kind in NODES.items():
        lines += ["", f"## {node}", "", "| parameter | default | allowed | at run time | meaning |"]
        lines.append("|---|---|---|---|---|")
        for one, known in kind.declared():
            at_run_time = "no" if known.fixed else "yes"
            lines.append(
                f"| `{one.name}` | `{literal(one.default)}` | {limits(known)} | {at_run_time} "
                f"| {known.description} |"
            )
    lines += [
        "",
        "A parameter of `redepth_node` or `refine_server` that can't change at run time takes effect when "
        "it is configured (deactivate, clean up, set, configure, activate); `autostart`, and those of "
        "`camera_player`, when the process starts.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    (ROOT / "config" / "redepth.yaml").write_text(write_yaml(), encoding="utf-8")
    (ROOT / "docs" / "reference" / "parameters.md").write_text(write_markdown(), encoding="utf-8")


if __name__ == "__main__":
    main()
