"""The formats by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from redepth_ros.exports.bag import BagExporter
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.html import HtmlExporter
from redepth_ros.exports.images import ImagesExporter
from redepth_ros.exports.nerfstudio import NerfstudioExporter
from redepth_ros.exports.ply import PlyExporter
from redepth_ros.exports.rrd import RrdExporter
from redepth_ros.exports.splat import SplatExporter
from redepth_ros.exports.tum import TumExporter

__all__ = ["FORMATS"]

FORMATS: dict[str, Callable[[Path, Session], Exporter]] = {
    "bag": BagExporter,
    "html": HtmlExporter,
    "images": ImagesExporter,
    "nerfstudio": NerfstudioExporter,
    "ply": PlyExporter,
    "rrd": RrdExporter,
    "splat": SplatExporter,
    "tum": TumExporter,
}
