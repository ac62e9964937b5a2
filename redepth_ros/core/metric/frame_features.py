"""Features of pixels for the fusion: place, ln disparity, colour; on a coarse grid and at anchors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.residual_gp import Features

__all__ = ["FrameFeatures"]

GRID_COLUMNS = 96
"""Columns of the grid on which corrections are computed."""
SOFTENING = 0.25
"""Added to the disparity above its 1st percentile before the logarithm, in ranges from there to the 99th."""
CONSTANT = 0.01
"""Range of the disparity over its median below which the network says nothing."""


class FrameFeatures:
    """Features of the pixels of one image."""

    def __init__(self, disparity: Tensor, image: Tensor | None = None) -> None:
        """Compute the grid's features.

        Args:
            disparity: (H, W), larger when nearer, NaN where not valid.
            image: (H, W, 3) RGB, bytes or floats in [0, 1].
        """
        self.disparity = disparity.float()
        self.height, self.width = disparity.shape
        self.columns = min(GRID_COLUMNS, self.width)
        self.rows = max(1, min(self.height, round(self.columns * self.height / self.width)))
        self._diagonal = float(np.hypot(self.height, self.width))
        # Samples, not averages: an average over a depth edge is the depth of nothing.
        self._grid_rows = ((torch.arange(self.rows) + 0.5) * (self.height / self.rows)).long()
        self._grid_columns = ((torch.arange(self.columns) + 0.5) * (self.width / self.columns)).long()
        sampled = self.sampled()  # (rows, columns)
        seen = sampled[sampled.isfinite()]
        self.constant = True
        self._low = self._range = self._mean = 0.0
        self._deviation = 1.0
        if len(seen):
            low, middle, high = torch.quantile(seen, torch.tensor([0.01, 0.5, 0.99])).tolist()
            self.constant = not high - low > CONSTANT * abs(middle)
            self._low, self._range = low, high - low
        if not self.constant:
            logs = self._log(seen)
            self._mean, self._deviation = float(logs.mean()), max(float(logs.std()), 1e-6)
        self._colours = _lab_grid(image, self.rows, self.columns)  # (rows, columns, 3)
        self._disparities = self._standardised(sampled)  # (rows, columns)

    def grid(self, step: int = 1) -> Features:
        """Return the features of every `step`-th grid cell, in rows."""
        return self._features(
            self._grid_rows[step // 2 :: step].repeat_interleave(len(self._grid_columns[step // 2 :: step])),
            self._grid_columns[step // 2 :: step].repeat(len(self._grid_rows[step // 2 :: step])),
            self._disparities[step // 2 :: step, step // 2 :: step].flatten(),
            self._colours[step // 2 :: step, step // 2 :: step].flatten(0, 1),
        )

    def at(self, anchors: Anchors) -> Features:
        """Return the features of the anchors' pixels."""
        rows, columns = torch.from_numpy(anchors.rows), torch.from_numpy(anchors.columns)
        colours = self._colours[rows * self.rows // self.height, columns * self.columns // self.width]
        return self._features(rows, columns, self._standardised(anchors.sample(self.disparity)), colours)

    def upsampled(self, values: Tensor) -> Tensor:
        """Return values of the grid cells, (rows, columns), at full size (H, W), bilinearly."""
        return interpolate(values[None, None], (self.height, self.width), mode="bilinear")[0, 0]

    def to_grid(self, values: Tensor, step: int) -> Tensor:
        """Return values (M,) of every `step`-th grid cell at all cells: (rows, columns)."""
        rows, columns = (len(one[step // 2 :: step]) for one in (self._grid_rows, self._grid_columns))
        return interpolate(values.reshape(1, 1, rows, columns), (self.rows, self.columns), mode="bilinear")[
            0, 0
        ]

    def sampled(self) -> Tensor:
        """Return the disparity at the grid cells: (rows, columns)."""
        return self.disparity[self._grid_rows][:, self._grid_columns]

    def _features(self, rows: Tensor, columns: Tensor, disparity: Tensor, colour: Tensor) -> Features:
        place = torch.stack((rows, columns), dim=1).float() / self._diagonal
        return Features(place, disparity, colour)

    def _log(self, disparity: Tensor) -> Tensor:
        return ((disparity - self._low).clamp_min(0.0) + SOFTENING * self._range).log()

    def _standardised(self, disparity: Tensor) -> Tensor:
        """ln disparity in its own standard deviations; 0 where it is not valid or says nothing."""
        if self.constant:
            return torch.zeros_like(disparity)
        return ((self._log(disparity) - self._mean) / self._deviation).nan_to_num(0.0)


def _lab_grid(image: Tensor | None, rows: int, columns: int) -> Tensor:
    """Colour of grid cells in CIE Lab over 100: (rows, columns, 3); zeros without an image."""
    if image is None:
        return torch.zeros(rows, columns, 3)
    step = max(1, image.shape[1] // (3 * columns))
    some = image[::step, ::step].permute(2, 0, 1)[None]  # (1, 3, h, w)
    rgb = interpolate(some.float(), (rows, columns), mode="area")[0].permute(1, 2, 0)  # (rows, columns, 3)
    if image.dtype == torch.uint8:
        rgb = rgb / 255.0
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055).clamp_min(0.0).pow(2.4), rgb / 12.92)
    to_xyz = torch.tensor(
        [[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0178, 0.1095, 0.8727]]  # over the white point
    )
    xyz = (linear @ to_xyz.T).clamp_min(0.0)
    root = torch.where(xyz > 0.008856, xyz.pow(1.0 / 3.0), 7.787 * xyz + 16.0 / 116.0)
    x, y, z = root.unbind(-1)
    return torch.stack((1.16 * y - 0.16, 5.0 * (x - y), 2.0 * (y - z)), dim=-1)
