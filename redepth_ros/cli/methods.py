"""Methods that `redepth evaluate` and `redepth demo` compare; each gives the depth of one image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from redepth_ros.cli.anchor_patterns import RANGE_NOISE
from redepth_ros.cli.interpolation import interpolate_anchors
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import fuse_depth
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.metric.scale_fit import fit_scale
from redepth_ros.core.metrics import align_depth
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine

__all__ = [
    "align_output",
    "fit_anchors",
    "fuse_output",
    "interpolate_depth",
    "limit_depth",
    "refine_image",
    "scale_output",
]

MIN_ANCHORS = 30
"""Fewer are used only where fewer are given."""

MAX_RATIO = 10.0
"""Depth is limited to so many times the largest true depth."""

Map = NDArray[np.float32]


def refine_image(
    engine: Engine,
    settings: RefineSettings,
    image: NDArray[np.uint8],
    camera: PinholeCamera | None,
    *,
    input_size: int = 0,
    anchors: Anchors | None = None,
    scale: Scale | None = None,
) -> Refinement:
    """Refine an image (H, W, 3); the maps are at its size.

    Raises:
        RedepthError: image, camera or anchors can't be used.
    """
    run = engine.start(image, settings, camera=camera, input_size=input_size, anchors=anchors, scale=scale)
    for _ in run.steps():
        pass
    return run.result().at_size(*image.shape[:2])


def align_output(output: Tensor, metric: bool, truth: Map, counted: NDArray[np.bool_]) -> Map:
    """Return the depth (H, W) of a network's output, scale and shift fitted to the counted truth.

    Args:
        output: (H, W), of a metric network or of a relative one.
        truth: (H, W).
        counted: (H, W) pixels that are fitted; the others become NaN.
    """
    disparity = disparity_from_output(output, metric).nan_to_num(0.0).numpy()
    depth = np.full(truth.shape, np.nan, np.float32)
    depth[counted] = align_depth(disparity[counted], truth[counted])
    return depth


def fit_anchors(output: Tensor, metric: bool, anchors: Anchors) -> Scale:
    """Fit the scale of a network's output (H, W) to anchors.

    Raises:
        AnchorError: they do not determine it.
    """
    disparity = anchors.sample(disparity_from_output(output, metric)).numpy()
    minimum = min(MIN_ANCHORS, len(anchors))
    return fit_scale(disparity, anchors.depth, noise=RANGE_NOISE, minimum=minimum, fit_shift=not metric).scale


def scale_output(output: Tensor, metric: bool, scale: Scale) -> Map:
    """Return the depth (H, W) of a network's output by a scale."""
    return scale.depth(disparity_from_output(output, metric)).numpy()


def interpolate_depth(anchors: Anchors) -> Map:
    """Return the depth (H, W) of the anchors without any network."""
    pixels = np.indices((anchors.height, anchors.width)).reshape(2, -1).T  # (H * W, 2)
    depth = interpolate_anchors(anchors, pixels).astype(np.float32)
    return depth.reshape(anchors.height, anchors.width)


def fuse_output(
    output: Tensor, metric: bool, anchors: Anchors, scale: Scale | None, image: NDArray[np.uint8]
) -> Map:
    """Return the depth (H, W) of a network's output, fused with the anchors under the image's guidance.

    Raises:
        AnchorError: too few anchors, and no scale.
    """
    disparity = disparity_from_output(output, metric)
    guide = torch.from_numpy(np.ascontiguousarray(image))
    return fuse_depth(disparity, anchors, scale, image=guide, noise=RANGE_NOISE).depth.numpy()


def limit_depth(depth: Map, truth: Map) -> Map:
    """Replace depth (H, W) that is infinite, invalid or far beyond all of the truth by a limit."""
    limit = np.float32(MAX_RATIO * np.nanmax(truth))
    return np.where(np.isfinite(depth), np.minimum(depth, limit), limit)
