"""The command `redepth`: depth of files, errors and speed, a demo, and requests to running nodes."""

from __future__ import annotations

import argparse
import math
import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from redepth_ros import __version__
from redepth_ros.cli.options import (
    add_network_options,
    add_preset_option,
    add_refine_options,
    add_worker_options,
    count,
    given_settings,
    replace_settings,
)
from redepth_ros.core.errors import ConfigError, RedepthError

__all__ = ["main"]

GOAL_FIELDS = ("steps", "ensemble_size", "time_budget")
"""Settings of the refinement that `redepth request` can send."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    try:
        options = _parse(arguments)
        options.run(options)
    except RedepthError as error:
        sys.exit(f"redepth: {error}")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("rclpy", "redepth_interfaces"):
            raise
        sys.exit(
            f"redepth: this command needs ROS 2 ({error}): source its setup.bash, or use ./dev run redepth"
        )
    except KeyboardInterrupt:
        sys.exit(130)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the arguments; this imports what the options need."""
    parser = argparse.ArgumentParser(prog="redepth", description=__doc__)
    parser.add_argument("--version", action="version", version=f"redepth {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for add in (_add_process, _add_refine, _add_evaluate, _add_benchmark, _add_demo, _add_request):
        add(commands)
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        _reject(commands.choices[options.command], unknown)
    return options


def _reject(parser: argparse.ArgumentParser, unknown: list[str]) -> None:
    """End because of unknown arguments; name the options that are spelled most alike."""
    known = [name for action in parser._actions for name in action.option_strings]
    name = unknown[0].partition("=")[0]
    alike = get_close_matches(name, known, n=1)
    parser.error(f"unknown argument {name!r}" + (f"; did you mean {alike[0]}?" if alike else ""))


def _add_command(commands: Any, name: str, help_text: str, arguments: str = "") -> argparse.ArgumentParser:
    """Add a command; its usage leaves out the options, which fill a screen."""
    usage = f"redepth {name} [OPTION ...] {arguments}".rstrip()
    return commands.add_parser(name, usage=usage, help=help_text, description=help_text, allow_abbrev=False)


def _add_process(commands: Any) -> None:
    from redepth_ros.cli.process.options import add_process_options

    parser = _add_command(
        commands,
        "process",
        "compute the depth of every frame of a bag, a video or images, in the formats of other tools",
        "INPUT [INPUT ...] OUT",
    )
    add_process_options(parser)
    parser.set_defaults(run=_process)


def _process(options: argparse.Namespace) -> None:
    from redepth_ros.cli.process.command import process

    process(options)


def _add_refine(commands: Any) -> None:
    from redepth_ros.cli.process.options import add_input_options

    parser = _add_command(
        commands,
        "refine",
        "refine the depth of images, with figures and a report for each",
        "IMAGE [IMAGE ...]",
    )
    parser.add_argument(
        "images", nargs="+", type=Path, metavar="IMAGE", help="image, folder of images, video or rosbag2"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("refined"), help="folder of the results (default: refined)"
    )
    parser.add_argument("--prompt", default="", help="description of the images for the prior")
    parser.add_argument("--captioner", default="", metavar="NAME", help="BLIP model that writes the prompt")
    parser.add_argument(
        "--focal",
        type=float,
        default=0.0,
        metavar="PIXELS",
        help="focal length, pixels (default: unknown, parallel rays)",
    )
    add_input_options(parser.add_argument_group("camera and anchors"))
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings")
    add_worker_options(parser, "refine images")
    add_preset_option(parser, "default")
    add_network_options(parser)
    add_refine_options(parser)
    parser.set_defaults(run=_refine)


def _refine(options: argparse.Namespace) -> None:
    from redepth_ros.cli.process.inputs import open_input
    from redepth_ros.cli.process.options import input_options
    from redepth_ros.cli.refine import refine_recording
    from redepth_ros.cli.workers.open import open_pool

    if not 0.0 <= options.focal < math.inf:
        raise ConfigError(f"--focal is {options.focal}; it must be at least 0 pixels, and 0 if unknown")
    recording, _ = open_input(options.images, input_options(options))
    given = _check_settings(options)
    with open_pool(options) as pool:
        refine_recording(
            recording,
            pool,
            replace_settings(pool.facts.preset(options.preset), given),
            options.out,
            prompt=options.prompt,
            input_size=options.input_size,
            focal=options.focal,
            overwrite=options.overwrite,
        )


def _add_evaluate(commands: Any) -> None:
    from redepth_ros.cli.anchor_patterns import ANCHOR_PATTERNS, OUTLIERS

    parser = _add_command(
        commands, "evaluate", "measure errors of fast, refined and fused depth on RGB-D pairs", "FOLDER"
    )
    parser.add_argument(
        "data", type=Path, metavar="FOLDER", help="data set: an index.csv, KITTI, DIODE, ETH3D or NYUv2"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("evaluation"), help="folder of the results (default: evaluation)"
    )
    parser.add_argument(
        "--anchors",
        type=count,
        default=200,
        metavar="N",
        help="pixels taken as measured, up to 2000; 0: none (default: 200)",
    )
    parser.add_argument(
        "--anchor-pattern",
        choices=ANCHOR_PATTERNS,
        default="random",
        help="where anchors lie: anywhere, on scan lines, or in the lower left quarter (default: random)",
    )
    parser.add_argument(
        "--outliers",
        type=float,
        default=OUTLIERS,
        metavar="SHARE",
        help=f"share of the anchors that have a random depth, in [0, 1] (default: {OUTLIERS})",
    )
    parser.add_argument(
        "--limit", type=count, default=0, metavar="N", help="first images only; 0: all (default)"
    )
    parser.add_argument("--captioner", default="", metavar="NAME", help="BLIP model that writes the prompts")
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings")
    add_worker_options(parser, "evaluate images")
    add_preset_option(parser, "default")
    add_network_options(parser)
    add_refine_options(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from redepth_ros.cli.anchor_patterns import AnchorSettings
    from redepth_ros.cli.datasets import read_pairs
    from redepth_ros.cli.evaluate import evaluate
    from redepth_ros.cli.workers.open import open_pool

    anchors = AnchorSettings(options.anchors, options.anchor_pattern, options.outliers)
    pairs = read_pairs(options.data)[: options.limit or None]
    given = _check_settings(options)
    with open_pool(options) as pool:
        evaluate(
            pairs,
            pool,
            replace_settings(pool.facts.preset(options.preset), given),
            options.out,
            anchors=anchors,
            captioner=options.captioner,
            input_size=options.input_size,
            overwrite=options.overwrite,
        )


def _add_benchmark(commands: Any) -> None:
    from redepth_ros.cli.benchmark.options import add_benchmark_options

    parser = _add_command(
        commands, "benchmark", "check and time this machine, and recommend parameters of the nodes"
    )
    add_benchmark_options(parser)
    parser.set_defaults(run=_benchmark)


def _benchmark(options: argparse.Namespace) -> None:
    from redepth_ros.cli.benchmark.command import benchmark

    benchmark(options)


def _check_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the refinement that were typed; warn of the embedded networks."""
    given = given_settings(options)
    if "tiny" in (options.model, options.prior):
        print("redepth: tiny is an embedded network for trying out; name a real one by --model and --prior")
    return given


def _add_demo(commands: Any) -> None:
    parser = _add_command(
        commands, "demo", "play images as a camera, write figures of their depth and print tables", "[PATH]"
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        default="",
        help="video, folder of images or rosbag2 (default: sample images)",
    )
    parser.add_argument("--model", default="tiny", help="parameter of redepth_node (default: tiny)")
    parser.add_argument("--prior", default="tiny", help="parameter of refine_server (default: tiny)")
    parser.add_argument(
        "--rate", type=float, default=0.0, metavar="HZ", help="frames per second (default: the source's)"
    )
    parser.add_argument(
        "--seconds", type=float, default=50.0, metavar="S", help="duration, seconds (default: 50)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("demo"), help="folder of the figures (default: demo)"
    )
    parser.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    from redepth_ros.cli.demo.run import run_demo

    run_demo(options.path, options.model, options.prior, options.rate, options.seconds, options.out)


def _add_request(commands: Any) -> None:
    parser = _add_command(commands, "request", "refine the newest frame of a running system")
    parser.add_argument("--namespace", default="", help="namespace of the nodes")
    parser.add_argument("--prompt", default="", help="description of the image (default: the server's)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=10.0,
        metavar="S",
        help="time to wait for the server, seconds (default: 10)",
    )
    add_preset_option(parser, "")
    add_refine_options(parser, GOAL_FIELDS, default="the server's")
    parser.set_defaults(run=_request)


def _request(options: argparse.Namespace) -> None:
    given = given_settings(options)
    from redepth_ros.cli.request import request_refinement

    done = request_refinement(
        options.namespace, preset=options.preset, prompt=options.prompt, timeout=options.timeout, **given
    )
    if not done:
        sys.exit(1)


if __name__ == "__main__":
    main()
