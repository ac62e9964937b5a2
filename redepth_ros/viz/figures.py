"""Sheets: pictures that show an image beside its depth and its normals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import FuncNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from redepth_ros.core.camera import (
    normals_from_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics

__all__ = ["draw_evaluation", "draw_losses", "draw_refinement", "draw_sheet", "normal_colours"]


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
    norm, ticks = _inverse_depth(depth)
    colours = colormaps["inferno_r"].with_extremes(bad="0.7")
    shown = axes[1].imshow(depth, cmap=colours, norm=norm)
    bar = figure.colorbar(shown, ax=axes[1], extend="both", label="depth (the model's unit)")
    bar.set_ticks(ticks, labels=[f"{tick:.2g}" for tick in ticks])
    points = points_from_depth(torch.from_numpy(depth.copy()), pixel_rays(intrinsics))
    axes[2].imshow(normal_colours(normals_from_points(points).numpy()))
    figure.savefig(path, dpi=110)


def draw_refinement(
    path: Path, image: NDArray[np.uint8], fast: NDArray[np.float32], refined: NDArray[np.float32],
    normals: tuple[NDArray[np.float32], NDArray[np.float32]], unit: str, title: str,
) -> None:  # fmt: skip
    """Write image, fast and refined depth, their difference, and normals before and after.

    Args:
        path: of the picture to write.
        image: (H, W, 3) RGB bytes.
        fast, refined: (H, W) depth, NaN where invalid.
        normals: (3, H, W) each, before and after, in the optical frame.
        unit: of the depth.
        title: over everything.
    """
    height, width = image.shape[:2]
    figure = Figure(figsize=(13.5, 8.4 * height / width + 1.0), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 3)
    names = (
        "image",
        "fast depth",
        "refined depth",
        "refined / fast - 1",
        "normals, fast",
        "normals, refined",
    )
    for axis, name in zip(axes.flat, names, strict=True):
        axis.set_axis_off()
        axis.set_title(name)
    axes[0, 0].imshow(image)
    norm, ticks = _inverse_depth(fast)
    colours = colormaps["inferno_r"].with_extremes(bad="0.7")
    for axis, depth in ((axes[0, 1], fast), (axes[0, 2], refined)):
        shown = axis.imshow(depth, cmap=colours, norm=norm)
    bar = figure.colorbar(shown, ax=axes[0, 2], extend="both", label=f"depth ({unit})")
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    ratio = 100.0 * (refined / fast - 1.0)
    largest = max(0.1, float(np.nanpercentile(np.abs(ratio), 99))) if np.isfinite(ratio).any() else 1.0
    shown = axes[1, 0].imshow(ratio, cmap="RdBu", vmin=-largest, vmax=largest)
    figure.colorbar(shown, ax=axes[1, 0], extend="both", label="%, blue is farther")
    for axis, normal in zip(axes[1, 1:], normals, strict=True):
        axis.imshow(normal_colours(normal))
    figure.savefig(path, dpi=110)


def draw_evaluation(
    path: Path, image: NDArray[np.uint8], truth: NDArray[np.float32], depths: dict[str, NDArray[np.float32]]
) -> None:
    """Write image and true depth, and below each depth by its name its relative error.

    Args:
        path: of the picture to write.
        image: (H, W, 3) RGB bytes.
        truth: (H, W), NaN where not measured.
        depths: (H, W) each, in the truth's unit.
    """
    height, width = truth.shape
    columns = 1 + len(depths)
    figure = Figure(figsize=(3.2 * columns, 6.4 * height / width + 0.8), layout="constrained")
    axes = figure.subplots(2, columns, squeeze=False)
    norm, _ = _inverse_depth(truth)
    colours = colormaps["inferno_r"].with_extremes(bad="0.7")
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("image")
    axes[1, 0].imshow(truth, cmap=colours, norm=norm)
    axes[1, 0].set_title("measured")
    for column, (name, depth) in enumerate(depths.items(), 1):
        axes[0, column].imshow(depth, cmap=colours, norm=norm)
        axes[0, column].set_title(name)
        error = 100.0 * (depth / truth - 1.0)
        shown = axes[1, column].imshow(error, cmap="RdBu", vmin=-50.0, vmax=50.0)
        axes[1, column].set_title(f"error, {np.nanmean(np.abs(error)):.1f} %")
    figure.colorbar(shown, ax=axes[1, -1], extend="both", label="%, blue is too far")
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=80)


def draw_losses(path: Path, losses: list[list[float]], smoothness: list[list[float]]) -> None:
    """Write the losses by step, a line for each group of members that shared a batch."""
    figure = Figure(figsize=(7.0, 3.5), layout="constrained")
    axes = figure.subplots(1, 2)
    for axis, lines, name in zip(axes, (losses, smoothness), ("SDS", "smoothness"), strict=True):
        for number, line in enumerate(lines):
            axis.plot(range(1, len(line) + 1), line, linewidth=0.8, label=f"group {number + 1}")
        axis.set_xlabel("step")
        axis.set_title(f"{name} loss")
        if len(lines) > 1:
            axis.legend(fontsize="small")
    figure.savefig(path, dpi=110)


def normal_colours(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normals (3, H, W) of the optical frame as colours (H, W, 3) in 0..1, grey where NaN.

    Red to the right, green up, blue towards the viewer, as normal maps are drawn.
    """
    mapped = 0.5 + 0.5 * normals.transpose(1, 2, 0) * np.array([1.0, -1.0, -1.0], np.float32)
    return np.asarray(np.nan_to_num(mapped, nan=0.7).clip(0.0, 1.0))


def _inverse_depth(depth: NDArray[np.float32]) -> tuple[FuncNorm, list[float]]:
    """Colours that go with 1 / depth, as in depth/color, and ticks for their bar."""
    # Beyond the 95th percentile is mostly sky.
    near, far = np.nanpercentile(depth, (1, 95)) if np.isfinite(depth).any() else (0.5, 1.0)
    far = max(far, 1.01 * near)
    inverses = (lambda d: -1.0 / np.maximum(d, 1e-9), lambda y: -1.0 / np.minimum(y, -1e-9))
    ticks = 1.0 / np.linspace(1.0 / near, 1.0 / far, 5)
    return FuncNorm(inverses, near, far), ticks.tolist()
