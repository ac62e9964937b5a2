"""The command `redepth`: what the package does, without a launch file."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import RedepthError
from redepth_ros.core.refine.settings import PRESETS, RefineSettings

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="redepth", description=__doc__)
    commands = parser.add_subparsers(required=True)
    _add_demo(commands)
    _add_refine(commands)
    _add_request(commands)
    _add_evaluate(commands)
    options = parser.parse_args(arguments)
    try:
        options.do(options)
    except RedepthError as error:
        sys.exit(f"redepth: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    demo = commands.add_parser(
        "demo", help="play pictures as a camera, show their depth, leave pictures and a table"
    )
    demo.add_argument(
        "path", nargs="?", default="",
        help="a video, a folder of pictures or a rosbag2; default: photographs of scikit-image",
    )  # fmt: skip
    demo.add_argument("--model", default="tiny", help="as the node's parameter (default: tiny)")
    demo.add_argument("--prior", default="tiny", help="as the server's parameter (default: tiny)")
    demo.add_argument("--rate", type=float, default=0.0, help="frames a second; default: the source's")
    demo.add_argument("--seconds", type=float, default=50.0, help="how long to watch (default: 50)")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="where the pictures go")
    demo.set_defaults(do=_demo)


def _demo(options: argparse.Namespace) -> None:
    from redepth_ros.cli.demo.run import run_demo

    run_demo(options.path, options.model, options.prior, options.rate, options.seconds, options.out)


def _add_refine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    refine = commands.add_parser("refine", help="refine the depth of pictures by test-time optimisation")
    refine.add_argument("pictures", nargs="+", type=Path, metavar="IMAGE")
    refine.add_argument("--out", type=Path, default=Path("refined"), help="where the results go")
    refine.add_argument("--model", default="tiny", help="depth network: hub name, folder or tiny")
    refine.add_argument("--prior", default="tiny", help="diffusion model: hub name, folder or tiny")
    refine.add_argument("--coder", default="", help="another autoencoder, such as madebyollin/taesd")
    refine.add_argument("--captioner", default="", help="BLIP model that writes the prompt: hub name, folder")
    refine.add_argument("--prompt", default="", help="what the pictures show")
    refine.add_argument("--preset", choices=sorted(PRESETS), default="fast")
    refine.add_argument("--steps", type=int, help="optimisation steps of each member")
    refine.add_argument("--members", type=int, help="independent runs that are averaged")
    refine.add_argument("--seed", type=int, help="of the random lights and noise")
    refine.add_argument("--time-budget", type=_seconds, help="seconds a picture")
    refine.add_argument("--input-size", type=int, default=0, help="longer side that the network sees, pixels")
    refine.add_argument("--focal", type=float, default=0.0, help="focal length, pixels; default: unknown")
    refine.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    refine.add_argument("--precision", default="auto", help="auto, float32, float16 or bfloat16")
    refine.set_defaults(do=_refine)


def _refine(options: argparse.Namespace) -> None:
    from redepth_ros.cli.refine import refine_pictures
    from redepth_ros.models.engine import Engine

    given = _given(options)
    engine = Engine.load(
        options.model, options.prior, coder=options.coder, captioner=options.captioner,
        device=options.device, precision=options.precision,
    )  # fmt: skip
    settings = dataclasses.replace(engine.preset(options.preset), **given)
    refine_pictures(
        options.pictures, engine, settings, options.out,
        prompt=options.prompt, longer_side=options.input_size, focal=options.focal,
    )  # fmt: skip


def _add_request(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    request = commands.add_parser("request", help="have the newest frame of a running system refined")
    request.add_argument("--namespace", default="", help="of the nodes")
    request.add_argument("--preset", choices=sorted(PRESETS), default="", help="default: the server's")
    request.add_argument("--steps", type=_count, default=0, help="default: the server's")
    request.add_argument("--members", type=_count, default=0, help="default: the server's")
    request.add_argument("--prompt", default="", help="what the image shows; default: the server's")
    request.add_argument("--time-budget", type=_seconds, default=0.0, help="seconds; default: the server's")
    request.add_argument("--patience", type=float, default=10.0, help="seconds to wait for the server")
    request.set_defaults(do=_request)


def _add_evaluate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    evaluate = commands.add_parser(
        "evaluate", help="errors of fast, refined and anchored depth on RGB-D pairs"
    )
    evaluate.add_argument("data", type=Path, help="folder: index.csv, KITTI, DIODE, ETH3D, NYUv2")
    evaluate.add_argument("--out", type=Path, default=Path("evaluation"), help="where the results go")
    evaluate.add_argument("--model", default="tiny", help="depth network: hub name, folder or tiny")
    evaluate.add_argument("--prior", default="tiny", help="diffusion model: hub name, folder or tiny")
    evaluate.add_argument("--preset", choices=sorted(PRESETS), default="fast")
    evaluate.add_argument("--steps", type=int, help="optimisation steps of each member")
    evaluate.add_argument("--members", type=int, help="independent runs that are averaged")
    evaluate.add_argument("--seed", type=int, help="of the random lights, the noise and the anchors")
    evaluate.add_argument("--anchors", type=_count, default=200, help="pixels taken as measured; 0: none")
    evaluate.add_argument("--limit", type=_count, default=0, help="first pictures only; 0: all")
    evaluate.add_argument("--input-size", type=_count, default=0, help="longer side that the network sees")
    evaluate.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    evaluate.set_defaults(do=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    from redepth_ros.cli.evaluate import evaluate
    from redepth_ros.cli.datasets import read_pairs
    from redepth_ros.models.engine import Engine

    given, pairs = _given(options), read_pairs(options.data)
    engine = Engine.load(options.model, options.prior, device=options.device)
    settings = dataclasses.replace(engine.preset(options.preset), **given)
    evaluate(
        pairs[: options.limit or None], engine, settings, options.out,
        anchors=options.anchors, longer_side=options.input_size,
    )  # fmt: skip


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the settings, checked before networks are loaded.

    Raises:
        ConfigError: a value out of its range.
    """
    names = ("steps", "members", "seed", "time_budget")
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    RefineSettings(**given)
    return given


def _count(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _seconds(text: str) -> float:
    """A time from 0 on, in seconds."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 on")
    return seconds


def _request(options: argparse.Namespace) -> None:
    from redepth_ros.cli.request import request_refinement

    done = request_refinement(
        options.namespace, preset=options.preset, steps=options.steps, members=options.members,
        prompt=options.prompt, time_budget=options.time_budget, patience=options.patience,
    )  # fmt: skip
    if not done:
        sys.exit(1)


if __name__ == "__main__":
    main()
