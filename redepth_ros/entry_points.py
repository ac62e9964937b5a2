"""The console scripts.

The modules of the executables import torch, transformers and ROS, which takes seconds. Ctrl-C meanwhile would
end in a traceback of Python's imports, so that SIGINT has its default action until they are imported. This
module itself must import nothing else.
"""

from __future__ import annotations

import signal
from importlib import import_module

__all__ = ["camera_player", "redepth", "redepth_composed", "redepth_node", "refine_server"]


def redepth() -> None:
    """Run the command `redepth`."""
    _run("redepth_ros.cli.main")


def redepth_node() -> None:
    """Run the node that makes fast depth."""
    _run("redepth_ros.nodes.redepth_node")


def refine_server() -> None:
    """Run the node that refines keyframes."""
    _run("redepth_ros.nodes.refine_server")


def redepth_composed() -> None:
    """Run both nodes in one process."""
    _run("redepth_ros.nodes.composed")


def camera_player() -> None:
    """Run the node that plays a recording."""
    _run("redepth_ros.nodes.camera_player")


def _run(module: str) -> None:
    """Import a module, and call its `main`."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # a background job of a shell ignores SIGINT, and still shall
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    main = import_module(module).main
    signal.signal(signal.SIGINT, handler)
    main()
