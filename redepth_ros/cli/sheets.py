"""Sheets: pictures that show an image beside its depth and its normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import FuncNorm
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
    # Colours go with 1 / depth, as in depth/color; beyond the 95th percentile is mostly sky.
    near, far = np.nanpercentile(depth, (1, 95)) if np.isfinite(depth).any() else (0.5, 1.0)
    inverses = (lambda d: -1.0 / np.maximum(d, 1e-9), lambda y: -1.0 / np.minimum(y, -1e-9))
    norm = FuncNorm(inverses, near, max(far, 1.01 * near))
    colours = colormaps["inferno_r"].with_extremes(bad="0.7")
    shown = axes[1].imshow(depth, cmap=colours, norm=norm)
    bar = figure.colorbar(shown, ax=axes[1], extend="both", label="depth (the model's unit)")
    ticks = 1.0 / np.linspace(1.0 / near, 1.0 / far, 5)
    bar.set_ticks(ticks.tolist(), labels=[f"{tick:.2g}" for tick in ticks])
    points = points_from_depth(torch.from_numpy(depth.copy()), pixel_rays(intrinsics))
    normals = normals_from_points(points).permute(1, 2, 0).numpy()  # (H, W, 3)
    # Red to the right, green up, blue towards the viewer, as normal maps are drawn.
    mapped = 0.5 + 0.5 * normals * np.array([1.0, -1.0, -1.0], np.float32)
    axes[2].imshow(np.nan_to_num(mapped, nan=0.7).clip(0.0, 1.0))
    figure.savefig(path, dpi=110)
