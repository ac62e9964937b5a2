"""Refinement of one keyframe; runs in any process."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redepth_ros.cli.workers.task import OnStep
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine

__all__ = ["RefineJob", "Refined"]


@dataclass(frozen=True)
class Refined:
    """A refined keyframe; maps are (H, W), NaN where invalid."""

    index: int
    outcome: str
    message: str
    seconds: float
    depth: NDArray[np.float32] | None = None
    stddev: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RefineJob:
    """A keyframe to refine, and how."""

    index: int
    image: NDArray[np.uint8]
    camera: PinholeCamera | None
    anchors: Anchors | None
    scale: Scale | None
    """Of the fast depth; None if the depth has no unit."""
    settings: RefineSettings
    limits: DepthLimits
    assumed_relative_stddev: float
    prompt: str = ""
    input_size: int = 0

    def run(self, engine: Engine, on_step: OnStep) -> Refined | None:
        """Refine the keyframe; return None if `on_step` ended it.

        Raises:
            RedepthError: image, camera or anchors can't be used.
        """
        started = time.monotonic()
        run = engine.start(
            self.image,
            self.settings,
            camera=self.camera,
            prompt=self.prompt,
            input_size=self.input_size,
            anchors=self.anchors,
            scale=self.scale,
        )
        for step in run.steps():
            if not on_step(step):
                return None
        result = run.result()
        scale = self.scale or run.scale or Scale()
        scaled = result.at_size(*self.image.shape[:2]).scaled(scale, self.assumed_relative_stddev)
        depth, stddev = self.limits.apply(scaled.depth, scaled.stddev)
        assert stddev is not None
        seconds = time.monotonic() - started
        return Refined(
            self.index, result.outcome.label, result.message, seconds, depth.numpy(), stddev.numpy()
        )

    def failed(self, reason: str) -> Refined:
        """Return a result without depth."""
        return Refined(self.index, "failed", reason, 0.0)
