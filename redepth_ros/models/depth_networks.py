"""Depth networks of all families, chosen by the type that their config.json names."""

from __future__ import annotations

from redepth_ros.models.depth_anything import DepthAnything, find_depth_network
from redepth_ros.models.download import Report
from redepth_ros.models.files import read_json

__all__ = ["load_depth_network"]

FAMILIES = {family.model_type: family for family in (DepthAnything,)}


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
    folder = find_depth_network(name, tuple(FAMILIES), report)
    family = FAMILIES[read_json(name, folder / "config.json")["model_type"]]
    return family.load(name, device=device, precision=precision, report=report)
