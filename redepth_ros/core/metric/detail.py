"""Local detail of a correction from more samples than a Gaussian process can take at once.

A bilateral grid (Chen, Paris and Durand 2007) over rows, columns and ln disparity: the errors that the
process leaves at the samples are averaged over neighbouring cells, and pulled to 0 where there are few.
"""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.samples import Samples

__all__ = ["smooth_detail"]

WIDTH = 1.2
"""Standard deviation of the average over rows and columns, in grid cells."""
BINS, BIN_WIDTH = 10, 0.5
"""Bins over standardised ln disparity, and their width."""
BIN_SMOOTHING = 0.7
"""Standard deviation of the average over bins, in bins."""
PRIOR_WEIGHT = 0.15
"""Weight, relative to that of a sample at its own position, that pulls the detail to 0."""


def smooth_detail(frame: FrameFeatures, samples: Samples, error: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted local average of errors at the grid cells: (rows, columns).

    Args:
        samples: N samples.
        error: (N,) of ln depth, which the detail shall remove.
        weight: (N,), 0 for a wrong sample.
    """
    rows, columns = frame.cells(samples.features)
    size = frame.rows * frame.columns
    index = _bin(samples.features.disparity) * size + rows * frame.columns + columns  # (N,)
    volume = torch.zeros(2, BINS * size)
    volume.index_add_(1, index, torch.stack((weight * error, weight)))
    volume = volume.reshape(2, BINS, frame.rows, frame.columns)
    volume = _smoothing(frame.rows, WIDTH) @ volume @ _smoothing(frame.columns, WIDTH)
    volume = torch.einsum("ab,cbhw->cahw", _smoothing(BINS, BIN_SMOOTHING), volume)
    bins = _bin(frame.grid().disparity).reshape(1, 1, frame.rows, frame.columns).expand(2, 1, -1, -1)
    total, density = volume.gather(1, bins)[:, 0]  # (rows, columns) each
    detail: Tensor = total / (density + PRIOR_WEIGHT)
    return detail


def _bin(disparity: Tensor) -> Tensor:
    """Return the bin of standardised ln disparity."""
    return (disparity / BIN_WIDTH + 0.5 * BINS).long().clamp(0, BINS - 1)


def _smoothing(size: int, width: float) -> Tensor:
    """Return a symmetric matrix (size, size) that smooths with a Gaussian of height 1."""
    index = torch.arange(size, dtype=torch.float32)
    return torch.exp(-0.5 * ((index[:, None] - index[None]) / width).square())
