"""The command `redepth`: what the package does, without a launch file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from redepth_ros.core.errors import RedepthError

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="redepth", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo", help="play pictures as a camera, show their depth, leave pictures and a table"
    )
    demo.add_argument(
        "path", nargs="?", default="",
        help="a video, a folder of pictures or a rosbag2; default: photographs of scikit-image",
    )  # fmt: skip
    demo.add_argument("--model", default="tiny", help="as the node's parameter (default: tiny)")
    demo.add_argument("--rate", type=float, default=0.0, help="frames a second; default: the source's")
    demo.add_argument("--seconds", type=float, default=25.0, help="how long to watch (default: 25)")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="where the pictures go")
    options = parser.parse_args(arguments)
    try:
        from redepth_ros.cli.demo import run_demo

        run_demo(options.path, options.model, options.rate, options.seconds, options.out)
    except RedepthError as error:
        sys.exit(f"redepth: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
