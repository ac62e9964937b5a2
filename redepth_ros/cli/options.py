"""Command-line options made from settings, as the nodes' parameters are."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterable
from dataclasses import Field
from typing import Any, TypeVar

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import PRESETS, RefineSettings
from redepth_ros.core.settings import Setting, Settings

__all__ = [
    "add_network_options",
    "add_preset_option",
    "add_refine_options",
    "add_worker_options",
    "count",
    "given_settings",
    "replace_settings",
]

SettingsT = TypeVar("SettingsT", bound=Settings)


def add_refine_options(
    parser: argparse.ArgumentParser, names: Iterable[str] = (), *, default: str = ""
) -> None:
    """Add an option for each field of `RefineSettings`; one that is not typed is None.

    Args:
        parser: to add to.
        names: of the fields; none takes all of them.
        default: shown in place of the defaults of the presets.
    """
    group = parser.add_argument_group("settings of the refinement")
    wanted = set(names)
    for field, setting in RefineSettings.declared():
        if not wanted or field.name in wanted:
            _add_option(group, field, setting, default or _preset_defaults(field.name))


def _add_option(group: argparse._ArgumentGroup, field: Field[Any], setting: Setting, default: str) -> None:
    kind = type(field.default)
    allowed = f"one of: {', '.join(setting.choices)}" if setting.choices else setting.range_text()
    facts = "; ".join(fact for fact in (allowed, f"default: {default}") if fact)
    text = f"{setting.description.removesuffix('.')} ({facts})".replace("%", "%%")
    if kind is bool:
        action: Any = argparse.BooleanOptionalAction
        group.add_argument(_option_name(field.name), action=action, default=None, help=text)
    else:
        metavar = {int: "N", float: "X", str: "NAME"}[kind]
        group.add_argument(_option_name(field.name), type=kind, metavar=metavar, help=text)


def _preset_defaults(name: str) -> str:
    """Return the values of a field in the presets, for example "160; 1000 in preset paper"."""
    values = {preset: getattr(settings, name) for preset, settings in PRESETS.items()}
    usual = values.pop("default")
    others = [f"{value} in preset {preset}" for preset, value in values.items() if value != usual]
    return ", ".join([str(usual), *others])


def _option_name(field: str) -> str:
    """Return the option of a field: "ensemble_size" is --ensemble-size."""
    return "--" + field.replace("_", "-")


def given_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the refinement that were typed, each within its range.

    Raises:
        ConfigError: a value is out of its range; the message names the option.
    """
    given = {}
    for field, setting in RefineSettings.declared():
        value = getattr(options, field.name, None)
        if value is not None:
            setting.check(_option_name(field.name), value)
            given[field.name] = value
    return given


def replace_settings(settings: SettingsT, given: dict[str, Any]) -> SettingsT:
    """Return settings with other values.

    Raises:
        ConfigError: values contradict each other; the message names the options.
    """
    try:
        return dataclasses.replace(settings, **given)
    except ConfigError as error:
        names = "|".join(field.name for field, _ in settings.declared() if "_" in field.name)
        raise ConfigError(
            re.sub(rf"\b({names})\b", lambda found: _option_name(found[0]), str(error))
        ) from None


def add_preset_option(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the option --preset; an empty default is the server's."""
    text = "settings from which the other options start"
    parser.add_argument(
        "--preset",
        choices=sorted(PRESETS),
        default=default,
        help=f"{text} (default: {default or 'that of the server'})",
    )


def add_network_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose the networks, their input size and their device."""
    group = parser.add_argument_group("networks")
    places = "hub name, folder, or tiny, the embedded one for trying out (default: tiny)"
    group.add_argument("--model", default="tiny", help=f"depth network: {places}")
    group.add_argument("--prior", default="tiny", help=f"diffusion prior: {places}")
    group.add_argument(
        "--vae",
        default="",
        metavar="NAME",
        help="autoencoder that replaces the prior's, for example madebyollin/taesd",
    )
    group.add_argument(
        "--input-size",
        type=count,
        default=0,
        metavar="N",
        help="longer side of the network's input, pixels; 0 takes the network's default",
    )
    group.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    group.add_argument(
        "--precision", default="auto", help="auto, float32, float16 or bfloat16 (default: auto)"
    )


def add_worker_options(parser: argparse.ArgumentParser, work: str) -> None:
    """Add the options --workers and --ray.

    Args:
        parser: to add to.
        work: of the workers, for example "refine images".
    """
    group = parser.add_argument_group("workers")
    group.add_argument(
        "--workers",
        type=_positive,
        metavar="N",
        help=f"processes that {work}; they share the CPU cores and the GPUs (default: 1; with --ray one for "
        "each GPU, or one for each node without GPUs)",
    )
    group.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help=f"{work} on a Ray cluster (default ADDRESS: that in RAY_ADDRESS, or that of this machine, or "
        "a new one)",
    )


def _positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def count(text: str) -> int:
    """Parse an integer of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)
