"""Features of an image's pixels for the fusion: position, ln disparity and color."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.samples import Features

__all__ = ["FrameFeatures"]

GRID_CELLS = 3900
"""Cells of the coarse grid on which corrections are computed, about square; 72 x 54 for 4:3."""
COLOR_SAMPLES = 2
"""Pixels per grid cell and axis whose mean is the color of the cell."""
SOFTENING = 0.25
"""Added to the disparity above its 1st percentile before the logarithm, in ranges from there to the 99th."""
MIN_RELATIVE_RANGE = 0.01
"""Range of the disparity divided by its median, below which the disparity counts as constant."""
RGB_TO_XYZ = ((0.4339, 0.3762, 0.1899), (0.2126, 0.7152, 0.0722), (0.0178, 0.1095, 0.8727))
"""Linear sRGB to CIE XYZ, divided by the white point D65."""


class FrameFeatures:
    """Features of the pixels of one image, and the coarse grid over it."""

    def __init__(self, disparity: Tensor, image: Tensor | None = None) -> None:
        """Compute the features of the grid cells.

        Args:
            disparity: (H, W), larger when nearer, NaN where invalid.
            image: (H, W, 3) RGB, uint8 or floats in [0, 1].
        """
        self.disparity = disparity.float()
        self.height, self.width = disparity.shape
        aspect = self.width / self.height
        self.columns = max(1, min(self.width, round(math.sqrt(GRID_CELLS * aspect))))
        self.rows = max(1, min(self.height, round(math.sqrt(GRID_CELLS / aspect))))
        # Samples, not averages: an average over a depth edge is the depth of neither surface.
        self._row_index = ((torch.arange(self.rows) + 0.5) * (self.height / self.rows)).long()
        self._column_index = ((torch.arange(self.columns) + 0.5) * (self.width / self.columns)).long()
        self.grid_disparity = self.disparity[self._row_index][:, self._column_index]  # (rows, columns)
        self.constant = True
        self._low = self._range = self._mean = 0.0
        self._stddev = 1.0
        valid = self.grid_disparity[self.grid_disparity.isfinite()]
        if len(valid):
            ordered = valid.sort().values
            low, median, high = (float(ordered[round(q * (len(valid) - 1))]) for q in (0.01, 0.5, 0.99))
            self.constant = not high - low > MIN_RELATIVE_RANGE * abs(median)
            self._low, self._range = low, high - low
        if not self.constant:
            logarithm = self._softened_log(valid)
            self._mean, self._stddev = float(logarithm.mean()), max(float(logarithm.std()), 1e-6)
        self._colors = _lab_grid(image, self.rows, self.columns)  # (rows, columns, 3)
        self._disparities = self._standardized(self.grid_disparity)  # (rows, columns)

    def grid(self, step: int = 1) -> Features:
        """Return the features of every `step`-th grid cell, in row-major order."""
        cells = slice(step // 2, None, step)
        rows, columns = self._row_index[cells], self._column_index[cells]
        return self._features(
            rows.repeat_interleave(len(columns)),
            columns.repeat(len(rows)),
            self._disparities[cells, cells].flatten(),
            self._colors[cells, cells].flatten(0, 1),
        )

    def features(self, anchors: Anchors) -> Features:
        """Return the features of the anchors' pixels."""
        rows, columns = torch.from_numpy(anchors.rows), torch.from_numpy(anchors.columns)
        colors = self._colors[rows * self.rows // self.height, columns * self.columns // self.width]
        return self._features(rows, columns, self._standardized(anchors.sample(self.disparity)), colors)

    def cells(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return the rows and columns (N,) of the grid cells in which pixels lie."""
        size = torch.tensor([self.rows / self.height, self.columns / self.width])
        cells = (features.position * math.hypot(self.height, self.width) * size).long()  # (N, 2)
        return cells[:, 0].clamp(0, self.rows - 1), cells[:, 1].clamp(0, self.columns - 1)

    def upsample(self, values: Tensor) -> Tensor:
        """Interpolate values of the grid cells (rows, columns) bilinearly to the full size (H, W)."""
        return interpolate(values[None, None], (self.height, self.width), mode="bilinear")[0, 0]

    def to_grid(self, values: Tensor, step: int) -> Tensor:
        """Interpolate values (..., M) of every `step`-th grid cell to all cells: (..., rows, columns)."""
        rows, columns = (len(range(step // 2, count, step)) for count in (self.rows, self.columns))
        maps = values.reshape(1, -1, rows, columns)
        full = interpolate(maps, (self.rows, self.columns), mode="bilinear")[0]
        return full.reshape(*values.shape[:-1], self.rows, self.columns)

    def _features(self, rows: Tensor, columns: Tensor, disparity: Tensor, color: Tensor) -> Features:
        diagonal = math.hypot(self.height, self.width)
        return Features(torch.stack((rows, columns), dim=1).float() / diagonal, disparity, color)

    def _softened_log(self, disparity: Tensor) -> Tensor:
        """Return ln of the disparity above its 1st percentile, softened near 0."""
        return ((disparity - self._low).clamp_min(0.0) + SOFTENING * self._range).log()

    def _standardized(self, disparity: Tensor) -> Tensor:
        """Return ln disparity with mean 0 and variance 1 over the image; 0 where invalid or constant."""
        if self.constant:
            return torch.zeros_like(disparity)
        return ((self._softened_log(disparity) - self._mean) / self._stddev).nan_to_num(0.0)


def _lab_grid(image: Tensor | None, rows: int, columns: int) -> Tensor:
    """Return the CIE Lab color of the grid cells, divided by 100: (rows, columns, 3); 0 without an image."""
    if image is None:
        return torch.zeros(rows, columns, 3)
    step = max(1, image.shape[1] // (COLOR_SAMPLES * columns))
    pixels = image[::step, ::step].permute(2, 0, 1)[None].float()  # (1, 3, h, w)
    rgb = interpolate(pixels, (rows, columns), mode="area")[0].permute(1, 2, 0)  # (rows, columns, 3)
    if image.dtype == torch.uint8:
        rgb = rgb / 255.0
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0.0).pow(2.4), rgb / 12.92)
    xyz = (linear @ torch.tensor(RGB_TO_XYZ).T).clamp_min(0.0)
    root = torch.where(xyz > 0.008856, xyz.pow(1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = root.unbind(-1)
    return torch.stack((1.16 * y - 0.16, 5.0 * (x - y), 2.0 * (y - z)), dim=-1)
