"""Evaluate one image with measured depth: the depth of every method, and its errors; runs in any process."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.cli.anchor_patterns import AnchorSettings, sample_anchors
from redepth_ros.cli.datasets import MAX_DEPTH, Pair
from redepth_ros.cli.methods import (
    align_output,
    fit_anchors,
    fuse_output,
    interpolate_depth,
    limit_depth,
    refine_image,
    scale_output,
)
from redepth_ros.cli.report import MEASURES
from redepth_ros.cli.workers.task import OnStep
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metrics import boundary_f1, depth_errors, normal_error
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine
from redepth_ros.models.prompt_depth_anything import with_prompt
from redepth_ros.viz.figures import plot_evaluation

__all__ = ["METHODS", "EvaluateTask", "Evaluation", "Sample", "read_sample"]

MAX_PIXELS = 2_000_000
"""Larger images are reduced first."""

METHODS = {
    "fast": "scale and shift of the network's depth fitted to all of the measured depth",
    "refined": "the same of the refined depth (as in Re-Depth Anything)",
    "fast + anchors": "scale and shift of fast depth fitted to the anchors",
    "interpolated": "the anchors alone, without a network: outliers dropped, linear in ln depth",
    "fused": "fast depth fused with the anchors",
    "anchored": "depth refined with the anchors and fused with them",
}
"""What each method is."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Sample:
    """A pair as it is evaluated; maps are (H, W)."""

    name: str
    image: NDArray[np.uint8]
    truth: Map
    camera: PinholeCamera | None
    metric: bool
    sharp: bool


@dataclass(frozen=True)
class Evaluation:
    """The result of a task."""

    name: str
    error: str = ""
    """Why there is no result; the other fields are then empty."""
    result: dict[str, Any] = field(default_factory=dict)
    """Outcome of the refinement, errors by method, and why other methods have none; JSON types only."""
    sheet: bytes = b""
    """The figure, a PNG."""


@dataclass(frozen=True)
class EvaluateTask:
    """A sample to refine with and without anchors, and whose errors to measure."""

    sample: Sample
    settings: RefineSettings
    anchors: AnchorSettings
    input_size: int = 0

    def failed(self, reason: str) -> Evaluation:
        """Return an evaluation without a result."""
        return Evaluation(self.sample.name, reason)

    def run(self, engine: Engine, on_step: OnStep) -> Evaluation:
        """Evaluate every method; `on_step` is not called.

        Raises:
            RedepthError: the image can't be used.
        """
        sample = self.sample
        valid = np.isfinite(sample.truth)
        needed = max(2, 2 * self.anchors.count)
        if valid.sum() < needed:
            raise ConfigError(
                f"{valid.sum()} measured pixels are too few: {needed} are needed, twice as many as --anchors"
            )
        counted, anchors = valid, None
        if self.anchors.count:
            anchors = sample_anchors(
                sample.truth,
                self.anchors.count,
                self.settings.seed,
                pattern=self.anchors.pattern,
                outliers=self.anchors.outliers,
            )
            counted = valid & np.isnan(anchors.to_depth())
        plain = refine_image(engine, self.settings, sample.image, sample.camera, input_size=self.input_size)
        depths = {
            "fast": align_output(plain.fast, plain.metric, sample.truth, counted),
            "refined": align_output(plain.refined, plain.metric, sample.truth, counted),
        }
        refused: dict[str, str] = {}
        if anchors is not None:
            anchored, refused = self._use_anchors(engine, plain, anchors, counted)
            depths |= anchored
        sheet = io.BytesIO()
        unit = "m" if sample.metric else "unknown unit"
        truth = np.where(counted, sample.truth, np.float32(np.nan))
        plot_evaluation(sheet, sample.image, truth, depths, unit=unit)
        errors = {name: _errors(depth, sample, counted) for name, depth in depths.items()}
        result = {"outcome": plain.outcome.name, "errors": errors, "refused": refused}
        return Evaluation(sample.name, result=result, sheet=sheet.getvalue())

    def _use_anchors(
        self, engine: Engine, plain: Refinement, anchors: Anchors, counted: NDArray[np.bool_]
    ) -> tuple[dict[str, Map], dict[str, str]]:
        """Return the depths of the methods that use anchors, and why the others have none."""
        sample, fast, metric = self.sample, plain.fast, plain.metric
        with suppress(AnchorError):  # the refinement below says why
            network = with_prompt(engine.model, anchors)
            if network is not engine.model:
                fast, metric = network.predict(sample.image, self.input_size).cpu(), network.metric
        found: dict[str, Map] = {}
        refused: dict[str, str] = {}
        scale = None
        try:
            scale = fit_anchors(fast, metric, anchors)
            found["fast + anchors"] = scale_output(fast, metric, scale)
        except AnchorError as error:
            refused["fast + anchors"] = str(error)
        try:
            found["anchored"] = self._refine_with_anchors(engine, anchors, scale)
        except AnchorError as error:
            refused["anchored"] = str(error)
        found["interpolated"] = interpolate_depth(anchors)
        try:
            found["fused"] = fuse_output(fast, metric, anchors, scale, sample.image)
        except AnchorError as error:
            refused["fused"] = str(error)
        depths = {name: limit_depth(found[name], sample.truth) for name in METHODS if name in found}
        return depths, refused

    def _refine_with_anchors(self, engine: Engine, anchors: Anchors, scale: Scale | None) -> Map:
        refined = refine_image(
            engine,
            self.settings,
            self.sample.image,
            self.sample.camera,
            input_size=self.input_size,
            anchors=anchors,
            scale=scale,
        )
        # With anchors, the standard deviation needs no assumption.
        return refined.scaled(scale or Scale(), 0.0).depth.numpy()


def read_sample(pair: Pair) -> Sample:
    """Read a pair; a large one is reduced.

    Raises:
        RedepthError: image or depth can't be used.
    """
    image, truth, camera = pair.image(), pair.depth(), pair.camera
    if image.shape[:2] != truth.shape:
        raise ConfigError(
            f"{pair.name}: the image has {image.shape[1]}x{image.shape[0]} pixels, its depth "
            f"{truth.shape[1]}x{truth.shape[0]}; they must be equal"
        )
    step = int(np.ceil(np.sqrt(truth.size / MAX_PIXELS)))
    if step > 1:
        truth = truth[::step, ::step]
        image = np.asarray(cv2.resize(image, truth.shape[::-1], interpolation=cv2.INTER_AREA))
        camera = camera.resized(truth.shape[1], truth.shape[0]) if camera else None
    limit = MAX_DEPTH if pair.metric else np.inf
    truth = np.where(truth < limit, truth, np.float32(np.nan))
    return Sample(pair.name, image, truth, camera, pair.metric, pair.sharp)


def _errors(depth: Map, sample: Sample, counted: NDArray[np.bool_]) -> dict[str, float | None]:
    """Measure errors; None for normals without a camera, metres without a unit, edges without sharp truth."""
    truth = np.where(counted, sample.truth, np.float32(np.nan))
    errors = depth_errors(depth[counted], truth[counted])
    errors["boundary_f1"] = boundary_f1(depth, truth) if sample.sharp else float("nan")
    if not sample.metric:
        errors["rmse"] = float("nan")
    errors["normal_angle"] = normal_error(depth, truth, sample.camera) if sample.camera else float("nan")
    return {key: errors[key] if np.isfinite(errors[key]) else None for key in MEASURES}
