"""A photograph with true depth: its depth by every method, from simulated returns of a lidar."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from redepth_ros.cli.anchor_patterns import AnchorSettings, sample_anchors
from redepth_ros.cli.methods import (
    align_output,
    fit_anchors,
    fuse_output,
    interpolate_depth,
    refine_image,
)
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metrics import depth_errors
from redepth_ros.data.motorcycle import CAMERA, load_motorcycle
from redepth_ros.models.engine import Engine
from redepth_ros.models.prompt_depth_anything import with_prompt
from redepth_ros.viz.figures import plot_comparison

__all__ = ["LIDAR", "Motorcycle", "compare_on_motorcycle"]

LIDAR = AnchorSettings(200, "lidar16", 0.1)
"""The simulated returns."""

ALIGNED = "fast, fitted to the truth"
"""Name of fast depth; its scale and shift use what a robot does not have."""

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Motorcycle:
    """Middlebury's Motorcycle, its returns, and its depth by every method."""

    image: NDArray[np.uint8]
    truth: Map
    """(H, W) metres, NaN where not measured."""
    anchors: Anchors
    depths: dict[str, Map]
    """(H, W) metres each, by their methods; the last one names the outcome of the refinement."""
    outcome: str
    """The outcome of the refinement."""

    @property
    def errors(self) -> dict[str, float]:
        """AbsRel by method, at the measured pixels that were no returns."""
        counted = np.isfinite(self.truth) & np.isnan(self.anchors.to_depth())
        found = {}
        for name, depth in self.depths.items():
            valid = counted & np.isfinite(depth)
            if valid.any():
                found[name] = depth_errors(depth[valid], self.truth[valid])["abs_rel"]
        return found

    def plot(self, path: Path, networks: str) -> None:
        """Write image, depths and true depth side by side.

        Args:
            path: file to write.
            networks: their names, for the title.
        """
        plot_comparison(
            path,
            self.image,
            self.truth,
            {**self.depths, "true depth": self.truth},
            unit="m",
            columns=3,
            title=f"{networks}; {self.description}",
            anchors=self.anchors,
        )

    @property
    def description(self) -> str:
        """The anchors in words."""
        lines = LIDAR.pattern.removeprefix("lidar")
        return f"{len(self.anchors)} simulated lidar returns on {lines} lines, {LIDAR.outliers:.0%} wrong"


def compare_on_motorcycle(engine: Engine, *, steps: int, ensemble_size: int, seed: int = 0) -> Motorcycle:
    """Make the depth of Motorcycle by every method.

    Args:
        engine: the networks.
        steps, ensemble_size: of the refinement.
        seed: of the returns and of the refinement.
    """
    settings = dataclasses.replace(engine.preset(), steps=steps, ensemble_size=ensemble_size, seed=seed)
    image, truth = load_motorcycle()
    anchors = sample_anchors(truth, LIDAR.count, seed, pattern=LIDAR.pattern, outliers=LIDAR.outliers)
    counted = np.isfinite(truth) & np.isnan(anchors.to_depth())
    network = with_prompt(engine.model, anchors)
    metric = network.metric
    fast = network.predict(image).float().cpu()  # (H, W)
    depths = {
        ALIGNED: align_output(fast, metric, truth, counted),
        "interpolated": interpolate_depth(anchors),
    }
    scale = None
    with suppress(AnchorError):
        scale = fit_anchors(fast, metric, anchors)
    depths["fused"] = fuse_output(fast, metric, anchors, scale, image)
    refined = refine_image(engine, settings, image, CAMERA, anchors=anchors, scale=scale)
    # With anchors, the standard deviation needs no assumption.
    depths[f"{refined.outcome.label}, anchored"] = refined.scaled(scale or Scale(), 0.0).depth.numpy()
    return Motorcycle(image, truth, anchors, depths, refined.outcome.label)
