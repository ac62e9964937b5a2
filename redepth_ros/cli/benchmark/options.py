"""The options of `redepth benchmark`."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_benchmark_options"]


def add_benchmark_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `redepth benchmark`."""
    out = "folder of the results (default: benchmark)"
    parser.add_argument("--out", type=Path, default=Path("benchmark"), metavar="FOLDER", help=out)
    parser.add_argument("--minutes", type=float, default=8.0, metavar="M", help="time, minutes (default: 8)")
    parser.add_argument(
        "--model",
        default="",
        metavar="NAME",
        help="depth network: hub name, folder or tiny "
        "(default: Depth Anything V2 Small, Base and Large in their true sizes, with random weights)",
    )
    parser.add_argument(
        "--prior",
        default="",
        metavar="NAME",
        help="diffusion prior: hub name, folder or tiny "
        "(default: Stable Diffusion 1.5 in its true size, with random weights)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument(
        "--rate",
        type=float,
        default=10.0,
        metavar="HZ",
        help="wanted rate of the fast depth, Hz (default: 10)",
    )
    parser.add_argument(
        "--keyframe-period",
        type=float,
        default=5.0,
        metavar="S",
        help="wanted time from keyframe to keyframe, seconds (default: 5)",
    )
