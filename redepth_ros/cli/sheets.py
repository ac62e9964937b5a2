"""Sheets: pictures that show an image beside its depth and its normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from redepth_ros.core.geometry import (
    normals_from_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.intrinsics import Intrinsics

__all__ = ["draw_sheet"]


def draw_sheet(
    path: Path, image: NDArray[np.uint8], depth: NDArray[np.float32], intrinsics: Intrinsics
) -> None:
    """Write image, depth with a colour bar, and normals, side by side.

    Args:
        path: of the picture to write.
        image: (H, W, 3) RGB bytes.
        depth: (H, W), NaN where invalid, in any unit.
        intrinsics: of the image, from which its normals follow.
    """
    height, width = image.shape[:2]
    figure = Figure(figsize=(13.5, 4.2 * height / width + 0.5), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, title in zip(axes, ("image", "fast depth", "normals"), strict=True):
        axis.set_axis_off()
        axis.set_title(title)
    axes[0].imshow(image)
    # Beyond the 95th percentile is mostly sky: it would leave no colours for the rest.
    far = np.nanpercentile(depth, 95) if np.isfinite(depth).any() else 1.0
    shown = axes[1].imshow(depth, cmap="inferno_r", vmax=far)
    figure.colorbar(shown, ax=axes[1], extend="max", label="depth (the model's unit)")
    points = points_from_depth(torch.from_numpy(depth.copy()), pixel_rays(intrinsics))
    normals = normals_from_points(points).permute(1, 2, 0).numpy()  # (H, W, 3)
    # Red to the right, green up, blue towards the viewer, as normal maps are drawn.
    colours = 0.5 + 0.5 * normals * np.array([1.0, -1.0, -1.0], np.float32)
    axes[2].imshow(np.nan_to_num(colours).clip(0.0, 1.0))
    figure.savefig(path, dpi=110)
