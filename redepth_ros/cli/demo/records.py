"""Observations of the demo: scenes, keyframes and their errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.data.rendered import image_digest

__all__ = ["NOT_FINISHED", "Errors", "Goal", "Keyframe", "Scene", "align", "first_of_each_image"]


NOT_FINISHED = "not finished"
"""Outcome of a goal without a result."""


@dataclass(frozen=True)
class Scene:
    """An image and its fast depth."""

    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    depth: NDArray[np.float32]
    """(H, W), NaN where invalid."""
    camera: PinholeCamera

    @property
    def key(self) -> str:
        """Identifies the image."""
        return image_digest(self.image)


@dataclass(frozen=True)
class Keyframe:
    """A scene and the result of its refinement."""

    scene: Scene
    refined: NDArray[np.float32]
    """(H, W), NaN where invalid."""
    outcome: str
    """For example "refined"."""
    message: str
    """The server's sentence about the outcome."""
    seconds: float
    """From the stamp of the image to the result."""


@dataclass
class Goal:
    """A goal of the server, with or without a result."""

    outcome: str = NOT_FINISHED
    """For example "refined", or "failed"."""
    message: str = ""
    """The server's sentence about the outcome."""
    keyframe: Keyframe | None = None
    """None while image or result is missing."""


@dataclass(frozen=True)
class Errors:
    """AbsRel of a keyframe before and after its refinement."""

    fast: float
    refined: float

    @classmethod
    def measure(cls, keyframe: Keyframe, truth: NDArray[np.float32]) -> Errors:
        """Measure the errors against the true depth (H, W), NaN where unknown."""
        fast, refined = (_abs_rel(depth, truth) for depth in (keyframe.scene.depth, keyframe.refined))
        return cls(fast, refined)

    @property
    def change(self) -> str:
        """The relative change, for example "-8.3%"."""
        return f"{self.refined / self.fast - 1.0:+.1%}"


def align(depth: NDArray[np.float32], truth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fit scale and shift of depth (H, W) to the truth (H, W); NaN where one of both is invalid."""
    valid = np.isfinite(truth) & np.isfinite(depth)
    aligned = np.full(truth.shape, np.nan, np.float32)
    aligned[valid] = align_depth(1.0 / depth[valid], truth[valid])
    return aligned


def _abs_rel(depth: NDArray[np.float32], truth: NDArray[np.float32]) -> float:
    aligned = align(depth, truth)
    valid = np.isfinite(aligned)
    return depth_errors(aligned[valid], truth[valid])["abs_rel"]


def first_of_each_image(keyframes: list[Keyframe], limit: int) -> list[Keyframe]:
    """Return the first keyframe of each image, at most `limit`."""
    found: dict[str, Keyframe] = {}
    for keyframe in keyframes:
        found.setdefault(keyframe.scene.key, keyframe)
    return list(found.values())[:limit]
