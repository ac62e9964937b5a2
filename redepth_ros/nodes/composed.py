"""The executable `redepth_composed`: redepth_node and refine_server in one process.

For small systems. The optimiser then shares Python's interpreter lock, torch's threads and the
process's memory with the fast stream; bench/under_refinement.py measures the cost.
"""

from __future__ import annotations

from redepth_ros.nodes.redepth_node import RedepthNode
from redepth_ros.nodes.refine_server import RefineServer
from redepth_ros.ros.node.lifecycle import spin

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run both nodes."""
    spin([RedepthNode, RefineServer], arguments)


if __name__ == "__main__":
    main()
