"""Figures that show an image beside its depth, its normals and their errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import wrap
from typing import IO, Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Colormap, FuncNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from numpy.typing import NDArray

from redepth_ros.core.camera import Camera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metrics import depth_errors
from redepth_ros.core.refine.result import Step
from redepth_ros.viz.colormaps import INVALID_GREY, colorize_normals

__all__ = ["plot_comparison", "plot_depth", "plot_evaluation", "plot_losses", "plot_refinement"]

Map = NDArray[np.float32]
"""A depth map (H, W), NaN where invalid."""

PANEL_WIDTH, MAX_PANEL_HEIGHT, GAP = 3.4, 4.5, 0.1
TITLE_HEIGHT, BAR_HEIGHT, BAR_THICKNESS, LEGEND_HEIGHT = 0.32, 0.75, 0.13, 0.35
"""Places of the parts of a figure, inches; BAR_HEIGHT includes the ticks and the label."""
TITLE_SIZE, TEXT_SIZE, TITLE_CHARACTERS = 13, 11, 9.0
"""Sizes of the fonts, points, and characters of a title to an inch: readable where a page shows
three maps in 900 pixels."""

DIRECTIONS = {
    "to the right": (1.0, 0.0, 0.0),
    "up": (0.0, -1.0, 0.0),
    "towards the camera": (0.0, 0.0, -1.0),
}
"""Normals that the legend explains, in the optical frame."""


def plot_depth(
    path: Path, image: NDArray[np.uint8], depth: Map, camera: Camera, *, unit: str, title: str = ""
) -> None:
    """Write image, depth and normals side by side.

    Args:
        path: file to write.
        image: (H, W, 3) 8-bit RGB.
        depth: (H, W), NaN where invalid.
        camera: camera of the image, for the normals.
        unit: unit of the depth.
        title: title of the figure.
    """
    figure, axes = _panels(1, 3, image.shape, title)
    _show(axes[0, 0], "image", image)
    _show_depths(figure, axes[0, 1:2], {"fast depth": depth}, depth, unit)
    _show(axes[0, 2], "normals", _normals(depth, camera))
    _add_legend(figure, normals=True)
    figure.savefig(path, dpi=110)


def plot_refinement(
    file: Path | IO[bytes],
    image: NDArray[np.uint8],
    fast: Map,
    refined: Map,
    camera: Camera,
    *,
    unit: str,
    title: str,
    outcome: str = "",
    truth: Map | None = None,
) -> None:
    """Write image, fast and refined depth, their ratio, and the normals of both.

    Args:
        file: path or stream to write; a stream gets a PNG.
        image: (H, W, 3) 8-bit RGB.
        fast, refined: (H, W), NaN where invalid, in the same unit.
        camera: camera of the image, for the normals.
        unit: unit of the depth.
        title: title of the figure, for example the name of the image.
        outcome: outcome of the refinement, follows the title.
        truth: (H, W) true depth in the unit of the others, NaN where it is unknown. It is shown
            in a column of its own, and the titles of `fast` and `refined` give their AbsRel.
    """
    depths = {"fast depth": fast, "refined depth": refined}
    if truth is not None:
        depths = {f"{name}{_abs_rel(depth, truth)}": depth for name, depth in depths.items()}
        depths["true depth"] = truth
    figure, axes = _panels(2, 1 + len(depths), image.shape, ": ".join(filter(None, (title, outcome))))
    _show(axes[0, 0], "image", image)
    _show_depths(figure, axes[0, 1:], depths, fast if truth is None else truth, unit)
    change = 100.0 * (_valid(refined) / _valid(fast) - 1.0)
    largest = max(0.1, float(np.nanpercentile(np.abs(change), 99))) if np.isfinite(change).any() else 1.0
    shown = _show(
        axes[1, 0], "change by refinement", change, cmap=_colours("RdBu"), vmin=-largest, vmax=largest
    )
    _add_bar(figure, shown, axes[1, :1], "%; blue: farther than before")
    names = ("normals, fast", "normals, refined", "normals, true")
    for axis, name, depth in zip(axes[1, 1:], names, depths.values(), strict=False):
        _show(axis, name, _normals(depth, camera))
    _add_legend(figure, normals=True)
    figure.savefig(file, dpi=110)


def plot_evaluation(
    file: Path | IO[bytes],
    image: NDArray[np.uint8],
    truth: Map,
    depths: Mapping[str, Map],
    *,
    unit: str = "m",
) -> None:
    """Write image and true depth, and each depth above its relative error.

    Args:
        file: path or stream to write; a stream gets a PNG.
        image: (H, W, 3) 8-bit RGB.
        truth: (H, W) true depth, NaN where it is unknown.
        depths: (H, W) each, in the unit of the truth, by their names.
        unit: unit of the depth.
    """
    figure, axes = _panels(2, 1 + len(depths), truth.shape, "")
    _show(axes[0, 0], "image", image)
    _show_depths(figure, axes[0, 1:], depths, truth, unit)
    norm, _ = _inverse_depth(truth)
    _show(axes[1, 0], "true depth", _valid(truth), cmap=_colours("inferno_r"), norm=norm)
    for axis, (name, depth) in zip(axes[1, 1:], depths.items(), strict=True):
        error = 100.0 * (_valid(depth) / _valid(truth) - 1.0)
        shown = _show(
            axis, f"{name}{_abs_rel(depth, truth)}", error, cmap=_colours("RdBu"), vmin=-50, vmax=50
        )
    _add_bar(figure, shown, axes[1, 1:], "depth / true depth - 1, %; blue: too far")
    _add_legend(figure, normals=False)
    figure.savefig(file, dpi=80)


def plot_comparison(
    path: Path,
    image: NDArray[np.uint8],
    truth: Map,
    depths: Mapping[str, Map],
    *,
    unit: str,
    columns: int,
    title: str = "",
    anchors: Anchors | None = None,
) -> None:
    """Write image and depths beside each other, with the colours of the true depth.

    Args:
        path: file to write.
        image: (H, W, 3) 8-bit RGB.
        truth: (H, W) true depth, NaN where it is unknown.
        depths: (H, W) each, in the unit of the truth, by their names; their titles give the AbsRel, except
            that of the truth itself. Together with the image they fill rows of `columns` maps.
        unit: unit of the depth.
        columns: number of maps in a row.
        title: title of the figure.
        anchors: drawn on the image, coloured by their depth; their pixels do not count in the AbsRel.
    """
    rows, rest = divmod(1 + len(depths), columns)
    if rest:
        raise ValueError(f"{1 + len(depths)} maps do not fill rows of {columns}")
    figure, axes = _panels(rows, columns, image.shape, title)
    counted = truth if anchors is None else np.where(np.isnan(anchors.to_depth()), truth, np.float32(np.nan))
    titled = [
        (name if depth is truth else f"{name}{_abs_rel(depth, counted)}", depth)
        for name, depth in depths.items()
    ]
    _show(axes[0, 0], "image" if anchors is None else f"image, {len(anchors)} anchors", image)
    if anchors is not None:
        norm, _ = _inverse_depth(truth)
        colours = _colours("inferno_r")
        axes[0, 0].scatter(
            anchors.columns, anchors.rows, s=9, c=anchors.depth, cmap=colours, norm=norm, linewidths=0
        )
    for row in range(rows):
        first = max(0, row * columns - 1)
        shown = dict(titled[first : (row + 1) * columns - 1])
        _show_depths(figure, axes[row, columns - len(shown) :], shown, truth, unit)
    _add_legend(figure, normals=False)
    figure.savefig(path, dpi=110)


def plot_losses(file: Path | IO[bytes], history: Sequence[Step]) -> None:
    """Write the losses by step, one line for the members that were optimised together.

    Args:
        file: path or stream to write; a stream gets a PNG.
        history: steps of the refinement.
    """
    groups: dict[str, list[Step]] = {}
    for step in history:
        first, last = step.members_done + 1, step.members_done + step.members_at_work
        groups.setdefault(f"member {first}" if first == last else f"members {first} to {last}", []).append(
            step
        )
    names = {"loss_sds": "SDS loss", "loss_smoothness": "smoothness loss", "loss_anchors": "anchor loss"}
    if not any(step.loss_anchors for step in history):
        del names["loss_anchors"]
    figure = Figure(figsize=(PANEL_WIDTH * len(names), 3.5), layout="constrained")
    axes = figure.subplots(1, len(names))
    for axis, (name, title) in zip(axes, names.items(), strict=True):
        for label, steps in groups.items():
            axis.plot(
                [step.step for step in steps],
                [getattr(step, name) for step in steps],
                linewidth=0.8,
                label=label,
            )
        axis.set_xlabel("step", fontsize=TEXT_SIZE)
        axis.set_title(title, fontsize=TITLE_SIZE)
    if len(groups) > 1:
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
        )
    figure.savefig(file, dpi=110)


def _panels(rows: int, columns: int, shape: Sequence[int], title: str) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a grid of axes (rows, columns) for maps of a shape (H, W, ...).

    Every part has its place in inches: Matplotlib's layout engines let titles and colour bars overlap
    where maps keep their aspect ratio.
    """
    width, height = PANEL_WIDTH, min(PANEL_WIDTH * shape[0] / shape[1], MAX_PANEL_HEIGHT)
    total_width = columns * (width + GAP) + GAP
    lines = wrap(title, int(TITLE_CHARACTERS * total_width))
    row_height = TITLE_HEIGHT + height + BAR_HEIGHT
    total_height = len(lines) * TITLE_HEIGHT + rows * row_height + LEGEND_HEIGHT
    figure = Figure(figsize=(total_width, total_height))
    top = 1.0 - 0.05 / total_height
    # Names of files may contain $, which would begin a formula.
    figure.text(0.5, top, "\n".join(lines), ha="center", va="top", fontsize=TITLE_SIZE, parse_math=False)
    axes = np.empty((rows, columns), object)
    for row, column in np.ndindex(rows, columns):
        bottom = LEGEND_HEIGHT + (rows - 1 - row) * row_height + BAR_HEIGHT
        place = (GAP + column * (width + GAP), bottom, width, height)
        axes[row, column] = figure.add_axes(_relative(figure, *place))
    return figure, axes


def _relative(
    figure: Figure, left: float, bottom: float, width: float, height: float
) -> tuple[float, float, float, float]:
    """Return a place in inches as Matplotlib takes it."""
    total_width, total_height = figure.get_size_inches()
    return left / total_width, bottom / total_height, width / total_width, height / total_height


def _show(axis: Axes, title: str, values: NDArray[Any], **options: Any) -> AxesImage:
    """Draw a map without ticks."""
    axis.set_axis_off()
    axis.set_title(title, fontsize=TITLE_SIZE)
    return axis.imshow(values, **options)


def _show_depths(
    figure: Figure, axes: NDArray[Any], depths: Mapping[str, Map], reference: Map, unit: str
) -> None:
    """Draw depth maps with the colours of one reference, and their common colour bar."""
    norm, ticks = _inverse_depth(reference)
    for axis, (name, depth) in zip(axes, depths.items(), strict=True):
        shown = _show(axis, name, _valid(depth), cmap=_colours("inferno_r"), norm=norm)
    bar = _add_bar(figure, shown, axes, f"depth ({unit}); colour linear in 1 / depth")
    bar.set_ticks(ticks, labels=[f"{tick:#.3g}".rstrip(".") for tick in ticks])


def _add_bar(figure: Figure, shown: AxesImage, axes: NDArray[Any], label: str) -> Colorbar:
    """Add a colour bar below neighbouring axes of one row."""
    first, last = (axis.get_position(original=True) for axis in (axes[0], axes[-1]))
    inset = 0.05 * (last.x1 - first.x0)
    height = BAR_THICKNESS / figure.get_size_inches()[1]
    place = (first.x0 + inset, first.y0 - 2.0 * height, last.x1 - first.x0 - 2.0 * inset, height)
    bar = figure.colorbar(
        shown, cax=figure.add_axes(place), orientation="horizontal", extend="both", extendfrac=0.02
    )
    bar.set_label(label, fontsize=TEXT_SIZE)
    bar.ax.tick_params(labelsize=TEXT_SIZE)
    return bar


def _add_legend(figure: Figure, *, normals: bool) -> None:
    """Explain grey and, on request, the colours of normals below the maps."""
    patches = [Patch(facecolor=str(INVALID_GREY), edgecolor="0.3", label="invalid")]
    if normals:
        for name, direction in DIRECTIONS.items():
            colour = colorize_normals(np.array(direction, np.float32).reshape(3, 1, 1))[0, 0]
            patches.append(Patch(facecolor=colour, edgecolor="0.3", label=f"normal {name}"))
    figure.legend(handles=patches, loc="lower center", ncols=len(patches), frameon=False, fontsize=TEXT_SIZE)


def _valid(depth: Map) -> Map:
    """Return depth with NaN where it is not positive and finite."""
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _normals(depth: Map, camera: Camera) -> NDArray[np.float32]:
    """Return the colours of the normals of depth, (H, W, 3)."""
    return colorize_normals(camera.normals(torch.from_numpy(_valid(depth))).numpy())


def _abs_rel(depth: Map, truth: Map) -> str:
    """Return the AbsRel for a title; empty without common valid pixels."""
    both = np.isfinite(_valid(depth)) & np.isfinite(_valid(truth))
    return f", AbsRel {depth_errors(depth[both], truth[both])['abs_rel']:.4f}" if both.any() else ""


def _colours(name: str) -> Colormap:
    """Return a colour map that shows invalid pixels in grey."""
    return colormaps[name].with_extremes(bad=str(INVALID_GREY))


def _inverse_depth(depth: Map) -> tuple[FuncNorm, list[float]]:
    """Return a norm that is linear in 1 / depth, as depth/color, and ticks for its bar."""
    depth = _valid(depth)
    # Most of what lies beyond the 95th percentile is sky.
    near, far = np.nanpercentile(depth, (1, 95)) if np.isfinite(depth).any() else (0.5, 1.0)
    far = max(far, 1.01 * near)
    inverses = (lambda d: -1.0 / np.maximum(d, 1e-9), lambda y: -1.0 / np.minimum(y, -1e-9))
    ticks = 1.0 / np.linspace(1.0 / near, 1.0 / far, 5)
    return FuncNorm(inverses, near, far), ticks.tolist()
