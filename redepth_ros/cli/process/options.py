"""The options of `redepth process`."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from redepth_ros.cli.options import (
    add_network_options,
    add_preset_option,
    add_refine_options,
    add_worker_options,
    count,
    replace_settings,
)
from redepth_ros.cli.process.inputs import InputOptions
from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.formats import FORMATS
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.recordings.recording import Recording

__all__ = ["add_input_options", "add_process_options", "choose_formats", "depth_settings", "input_options"]

NODE_SETTINGS = (
    "runtime",
    "scale",
    "shift",
    "min_depth",
    "max_depth",
    "max_relative_stddev",
    "max_relative_gradient",
    "assumed_relative_stddev",
    "keyframe_interval",
    "keyframe_min_interval",
    "keyframe_motion_threshold",
    "anchor_tolerance",
    "anchor_noise",
    "fuse_anchors",
    "min_anchors",
    "camera_height",
    "scale_measurement_noise",
    "scale_process_noise",
    "scale_timeout",
)
"""Parameters of redepth_node that are options here, with the node's defaults."""

KEYFRAMES = ("none", "motion", "interval", "all")


def add_process_options(parser: argparse.ArgumentParser) -> None:
    """Add all options."""
    parser.add_argument(
        "input", nargs="+", type=Path, metavar="INPUT", help="rosbag2, video, folder of images, or images"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument(
        "--format",
        default="",
        metavar="NAMES",
        help=f"formats, separated by commas: {', '.join(FORMATS)} (default: bag for a bag, else images)",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print the plan and the estimated time, and write nothing"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace results of other settings")
    _add_selection(parser.add_argument_group("frames"))
    add_input_options(parser.add_argument_group("camera and anchors"))
    _add_output(parser.add_argument_group("output"))
    _add_node_settings(parser.add_argument_group("settings of the depth, as of redepth_node"))
    parser.add_argument("--prompt", default="", help="description of the images for the prior")
    parser.add_argument("--captioner", default="", metavar="NAME", help="BLIP model that writes the prompt")
    add_worker_options(parser, "refine keyframes")
    add_preset_option(parser, "default")
    add_network_options(parser)
    add_refine_options(parser)


def _add_selection(group: Any) -> None:
    group.add_argument("--every", type=count, default=1, metavar="N", help="process one frame in N")
    group.add_argument(
        "--rate",
        type=float,
        default=0.0,
        metavar="HZ",
        help="largest rate, frames per second (default: every frame)",
    )
    group.add_argument(
        "--start", type=float, default=0.0, metavar="S", help="first frame, seconds after the beginning"
    )
    group.add_argument(
        "--end", type=float, default=float("inf"), metavar="S", help="last frame, seconds after the beginning"
    )
    group.add_argument(
        "--keyframes", choices=KEYFRAMES, default="none", help="frames that are also refined (default: none)"
    )


def add_input_options(group: Any) -> None:
    """Add the options of `InputOptions`, except those of the anchors' tolerance."""
    group.add_argument("--topic", default="", help="image topic of a bag (default: its only camera)")
    group.add_argument(
        "--anchors",
        default="auto",
        metavar="SOURCE",
        help="measured depth for metres: auto, none, depth, points, a topic, or a folder with depth "
        "of the images (default: auto)",
    )
    group.add_argument(
        "--fixed-frame",
        default="",
        help="fixed frame for compensating motion between cloud and image, such as odom",
    )
    group.add_argument(
        "--poses", default="auto", help="world frame of the poses: auto (map or odom), none, or a frame"
    )
    group.add_argument("--camera-info", default="", metavar="FILE", help="calibration, YAML as ROS writes it")
    group.add_argument("--intrinsics", default="", metavar="FX,FY,CX,CY", help="calibration in pixels")
    group.add_argument(
        "--colmap", default="", metavar="FOLDER", help="COLMAP model: calibration, poses, anchors"
    )


def _add_output(group: Any) -> None:
    group.add_argument("--float32", action="store_true", help="format images: also write float32 as .npz")
    group.add_argument(
        "--exr", action="store_true", help="format images: also write float32 as .exr (needs OpenEXR)"
    )
    group.add_argument(
        "--only", nargs="+", default=[], metavar="TOPIC", help="format bag: topics to copy (default: all)"
    )
    group.add_argument("--namespace", default="", help="format bag: namespace of the new topics")


def _add_node_settings(group: Any) -> None:
    from redepth_ros.cli.options import _add_option

    for field, setting in DepthSettings.declared():
        if field.name in NODE_SETTINGS:
            _add_option(group, field, setting, str(field.default))


def depth_settings(options: argparse.Namespace) -> DepthSettings:
    given = {
        name: getattr(options, name) for name in NODE_SETTINGS if getattr(options, name, None) is not None
    }
    return replace_settings(DepthSettings(), {**given, "keyframes": options.keyframes})


def input_options(options: argparse.Namespace) -> InputOptions:
    names = [field.name for field in dataclasses.fields(InputOptions)]
    given = {name: getattr(options, name) for name in names if getattr(options, name, None) is not None}
    return InputOptions(**given)


def choose_formats(options: argparse.Namespace, recording: Recording) -> tuple[str, ...]:
    names = [name.strip() for name in options.format.split(",") if name.strip()]
    if unknown := [name for name in names if name not in FORMATS]:
        raise ConfigError(f"--format is {', '.join(unknown)!r}; the formats are: {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names)) or ("bag" if recording.kind == "bag" else "images",)
