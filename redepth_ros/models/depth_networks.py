"""Depth networks of all families, chosen by the type that their config.json names."""

from __future__ import annotations

from typing import Any

from redepth_ros.core.errors import ModelError
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_anything_3 import DepthAnything3
from redepth_ros.models.depth_pro import DepthPro
from redepth_ros.models.download import Report
from redepth_ros.models.dpt import Dpt
from redepth_ros.models.files import read_json
from redepth_ros.models.pretrained import find_depth_network
from redepth_ros.models.prompt_depth_anything import PromptDepthAnything

__all__ = ["load_depth_network"]

FAMILIES: dict[str, type[DepthAnything]] = {
    family.model_type: family
    for family in (DepthAnything, DepthAnything3, DepthPro, Dpt, PromptDepthAnything)
}


def load_depth_network(
    name: str, *, device: str = "auto", precision: str = "auto", report: Report | None = None
) -> DepthAnything:
    """Load a depth network of the family that its config.json names.

    Args:
        name, device, precision, report: see `DepthAnything.load`.

    Raises:
        ConfigError: the device or the precision is not available.
        ModelError: the network is missing, damaged or of an unknown type.
    """
    folder = find_depth_network(name, _check_family, report)
    family = FAMILIES[_type_of(read_json(name, folder / "config.json"))]
    return family.load(name, device=device, precision=precision, report=report)


def _type_of(config: dict[str, Any]) -> str:
    """Return the type of a network; the folders of Depth Anything 3 give a model_name only."""
    if str(config.get("model_name")).startswith("da3"):
        return DepthAnything3.model_type
    return str(config.get("model_type"))


def _check_family(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError unless a config.json is that of a known network."""
    family = FAMILIES.get(_type_of(config))
    if family is None:
        raise ModelError(
            f"model {name!r} has the type {config.get('model_type')!r}; it must be one of: "
            f"{', '.join(FAMILIES)} (hub names of Depth Anything V2 in transformers' layout end in -hf)"
        )
    family.check_config(name, config)
