"""Refine one image and make the files of its folder; runs in any process."""

from __future__ import annotations

import dataclasses
import io
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.cli.workers.task import OnStep
from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome, Refinement
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.exports.files import encode_image, to_uint16
from redepth_ros.models.engine import Engine
from redepth_ros.viz.colormaps import colorize_depth, colorize_normals
from redepth_ros.viz.figures import plot_losses, plot_refinement

__all__ = ["RefineTask", "RefinedImage"]


@dataclass(frozen=True)
class RefinedImage:
    """The result of a task."""

    name: str
    message: str
    """How the refinement ended, or why there is none."""
    outcome: Outcome | None = None
    """None if there is no refinement."""
    warning: str = ""
    interrupted: bool = False
    """Whether Ctrl-C ended the refinement."""
    files: dict[str, bytes] = field(default_factory=dict)
    """Content by name."""
    report: dict[str, Any] = field(default_factory=dict)
    """JSON types only."""


@dataclass(frozen=True)
class RefineTask:
    """An image to refine, and how."""

    name: str
    stamp: int
    """Nanoseconds."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    camera: PinholeCamera | None
    anchors: Anchors | None
    settings: RefineSettings
    prompt: str = ""
    """Empty asks the captioner, if there is one."""
    input_size: int = 0
    """Longer side of the network's input, pixels; 0 takes the network's default."""

    def run(self, engine: Engine, on_step: OnStep) -> RefinedImage:
        """Refine the image. Ctrl-C ends the steps; the result is then the best so far."""
        started, warning, interrupted = time.monotonic(), "", False
        start = partial(
            engine.start,
            self.image,
            self.settings,
            camera=self.camera,
            prompt=self.prompt,
            input_size=self.input_size,
        )
        try:
            run = start(anchors=self.anchors)
        except AnchorError as error:
            warning = f"anchors are not used: {error}"
            run = start()
        try:
            for step in run.steps():
                if not on_step(step):
                    break
        except KeyboardInterrupt:
            interrupted = True
        result = run.result()
        seconds = time.monotonic() - started
        maps, unit = _make_maps(result.at_size(*self.image.shape[:2]), self.camera)
        files = _make_files(self, result, maps, unit)
        report = {
            **_report(self, result, engine),
            "depth_unit": unit,
            "anchors": len(result.anchors) if result.anchors else 0,
            "seconds": round(seconds, 3),
        }
        return RefinedImage(self.name, result.message, result.outcome, warning, interrupted, files, report)

    def failed(self, reason: str) -> RefinedImage:
        """Return a result without a refinement."""
        return RefinedImage(self.name, reason)


def _make_maps(
    result: Refinement, camera: PinholeCamera | None
) -> tuple[dict[str, NDArray[np.float32]], str]:
    """Return depth, fast depth and standard deviation (H, W), normals of both (3, H, W), and the unit."""
    scale = result.scale or result.known_scale
    measured = result.anchors is not None
    unit = "m" if result.metric or scale or measured else "half image heights, scale unknown"
    depth, fast, stddev = result.depth, result.fast_depth, result.relative_stddev * result.depth
    if scale or measured:
        scaled = result.scaled(scale or Scale(), 0.0)
        depth, fast, stddev = scaled.depth, scaled.fast, scaled.stddev
    normals = (camera or OrthographicCamera()).normals(torch.stack((depth, fast)))  # (2, 3, H, W)
    maps = {
        "depth": depth,
        "fast_depth": fast,
        "stddev": stddev,
        "normals": normals[0],
        "fast_normals": normals[1],
    }
    return {name: values.numpy() for name, values in maps.items()}, unit


def _make_files(
    task: RefineTask, result: Refinement, maps: dict[str, NDArray[np.float32]], unit: str
) -> dict[str, bytes]:
    """Return the content of the image's files."""
    streams = {name: io.BytesIO() for name in ("maps.npz", "sheet.png", "losses.png")}
    np.savez_compressed(streams["maps.npz"], **maps)  # type: ignore[arg-type]
    plot_refinement(
        streams["sheet.png"],
        task.image,
        maps["fast_depth"],
        maps["depth"],
        task.camera or OrthographicCamera(),
        unit=unit,
        title=task.name,
        outcome=result.message,
    )
    plot_losses(streams["losses.png"], result.history)
    return {
        "color.png": encode_image(".png", colorize_depth(maps["depth"])),
        "normals.png": encode_image(".png", to_uint8(colorize_normals(maps["normals"]))),
        "depth.png": encode_image(".png", to_uint16(maps["depth"], 1000.0)),
        **{name: stream.getvalue() for name, stream in streams.items()},
    }


def _report(task: RefineTask, result: Refinement, engine: Engine) -> dict[str, Any]:
    height, width = task.image.shape[:2]
    return {
        "image": task.name,
        "stamp": task.stamp,
        "outcome": result.outcome.name,
        "message": result.message,
        "device": str(engine.model.device),
        "prompt": result.prompt,
        "camera": dataclasses.asdict(task.camera) if task.camera else None,
        "scale": dataclasses.asdict(scale) if (scale := result.scale or result.known_scale) else None,
        "depth_png": "1000 per unit, 0 is invalid",
        "size": [width, height],
        "network_size": [result.refined.shape[1], result.refined.shape[0]],
        "steps": result.steps,
        "plan": dataclasses.asdict(result.plan),
        "losses": [round(step.loss, 6) for step in result.history],
        "seconds_refining": round(result.elapsed, 3),
    }
