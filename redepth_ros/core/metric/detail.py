"""Local detail of a correction from more samples than a Gaussian process can take at once.

A bilateral grid (Chen, Paris and Durand 2007) over rows, columns and ln disparity: what the process leaves
of the samples is spread over neighbouring cells, and returns to 0 where there are few.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.residual_gp import Correction, Samples, predict_mean, predict_spread

__all__ = ["detail_of", "evenly_spread"]

CELL = 1
"""Grid cells per bilateral cell, along rows and columns."""
WIDTH = 2.0
"""Standard deviation of the smoothing, in bilateral cells."""
BINS, BIN_WIDTH = 10, 0.5
"""Bins over standardised ln disparity, and their width."""
PRIOR = 0.15
"""Weight of samples, at the centre of the smoothing, that pulls the detail to 0."""
LARGEST = 4.0
"""Leftovers beyond so many standard deviations count as wrong samples."""


def evenly_spread(samples: Samples, count: int) -> Tensor:
    """Return the indices of `count` samples that are spread over the image like all of them."""
    rows, columns = ((samples.at.place[:, axis] * 20.0).long() for axis in (0, 1))
    snake = torch.where(rows % 2 == 0, columns, 40 - columns)
    order = torch.argsort(rows * 64 + snake, stable=True)  # along the rows of a coarse raster, back and forth
    return order[torch.linspace(0, len(samples) - 1, count).round().long()]


def detail_of(correction: Correction, samples: Samples, frame: FrameFeatures, noise: float) -> Tensor:
    """Return the detail of ln depth that all samples add to a correction fitted to some: (rows, columns)."""
    left = samples.residual - predict_mean(correction, samples.at)  # (N,)
    spread = predict_spread(correction, samples.at)
    deviation = (spread.variance * (0.5 + spread.surprise) + noise**2).sqrt()
    weight = (left.abs() < LARGEST * deviation).float()
    scale = torch.tensor([frame.height, frame.width]) / torch.hypot(
        torch.tensor(float(frame.height)), torch.tensor(float(frame.width))
    )
    shape = torch.tensor([frame.rows, frame.columns])
    at = (samples.at.place / scale * shape).long()  # (N, 2)
    rows, columns = at[:, 0].clamp(0, frame.rows - 1), at[:, 1].clamp(0, frame.columns - 1)
    size = frame.rows * frame.columns
    place = _bins(samples.at.disparity) * size + rows * frame.columns + columns
    volume = torch.zeros(2, BINS * size)
    volume.index_add_(1, place, torch.stack((weight * left, weight)))
    volume = volume.reshape(2, BINS, frame.rows, frame.columns)
    for axis, width in ((3, WIDTH), (2, WIDTH), (1, 0.7)):
        volume = _smooth(volume, axis, width)
    bins = _bins(frame.grid().disparity).reshape(1, 1, frame.rows, frame.columns)
    total, share = volume.gather(1, bins.expand(2, 1, -1, -1))[:, 0]  # (rows, columns) each
    detail: Tensor = total / (share + PRIOR)
    return detail


def _bins(disparity: Tensor) -> Tensor:
    return (disparity / BIN_WIDTH + 0.5 * BINS).long().clamp(0, BINS - 1)


def _smooth(volume: Tensor, axis: int, width: float) -> Tensor:
    """Convolve one axis of a volume with a Gaussian of height 1."""
    reach = int(3.0 * width + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=volume.dtype)
    kernel = torch.exp(-0.5 * (offsets / width).square())[None, None]  # (1, 1, K)
    moved = volume.movedim(axis, -1)
    flat: Tensor = conv1d(moved.reshape(-1, 1, moved.shape[-1]), kernel, padding=reach)
    return flat.reshape(moved.shape).movedim(-1, axis)
