"""Batches of crops, drawn from several sources of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from training.real_images import Sample

__all__ = ["SHARES", "sample_batch"]

CROPS = ((120, 160), (120, 160), (110, 160), (90, 160), (50, 160), (120, 120), (160, 120))
"""Sizes (rows, columns) of batches: the aspect ratios of cameras, at two thirds of the network's input."""
SHARES = {"scenes": 0.25, "pairs": 0.15, "views": 0.25, "frames": 0.35}
"""Shares of a batch: rendered scenes, RGB-D pairs, and, with the teacher's disparity, views and frames."""


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def _crop(sample: Sample, rows: int, columns: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Cut a random part of an image, of a given aspect ratio: (3, rows, columns), (rows, columns)."""
    height, width = sample.disparity.shape
    zoom = min(height / rows, width / columns) * float(_uniform(generator, 0.55, 1.0, 1))
    h, w = max(8, int(rows * zoom)), max(8, int(columns * zoom))
    top = int(_uniform(generator, 0, height - h + 0.99, 1))
    left = int(_uniform(generator, 0, width - w + 0.99, 1))
    image = torch.from_numpy(sample.image[top : top + h, left : left + w]).permute(2, 0, 1).float() / 255.0
    disparity = torch.from_numpy(sample.disparity[top : top + h, left : left + w]).float()
    image = interpolate(image[None], (rows, columns), mode="bilinear", antialias=True)[0]
    disparity = interpolate(disparity[None, None], (rows, columns), mode="nearest")[0, 0]
    if float(_uniform(generator, 0, 1, 1)) < 0.5:
        image, disparity = image.flip(-1), disparity.flip(-1)
    return image, disparity


def sample_batch(
    sources: Mapping[str, Sequence[Sample]], size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw crops of all sources, of one shape, with other colours.

    Args:
        sources: images by the names of `SHARES`.
        size: of the batch B.
        generator: source of randomness.

    Returns:
        Images (B, 3, h, w) in [0, 1], disparities (B, h, w) whose mean is 1, and (B,) which are affine.
    """
    rows, columns = CROPS[int(torch.randint(len(CROPS), (1,), generator=generator))]
    crops, affine = [], []
    for name, samples in sources.items():
        for _ in range(round(size * SHARES[name])):
            sample = samples[int(torch.randint(len(samples), (1,), generator=generator))]
            crops.append(_crop(sample, rows, columns, generator))
            affine.append(sample.affine)
    image = _change_colors(torch.stack([crop[0] for crop in crops]), generator)
    disparity = torch.stack([crop[1] for crop in crops])
    # Each target is in units of its own mean: the network's unit, with no free shift.
    disparity = disparity / disparity.nanmean(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    return image, disparity, torch.tensor(affine)


def _change_colors(image: Tensor, generator: torch.Generator) -> Tensor:
    """Change exposure, white balance, contrast, gamma and noise of images (B, 3, h, w), as cameras do."""
    uniform, size = partial(_uniform, generator), len(image)
    image = image ** torch.exp(uniform(-0.2, 0.2, size, 1, 1, 1))
    image = image * uniform(0.85, 1.15, size, 1, 1, 1) * uniform(0.94, 1.06, size, 3, 1, 1)
    gray = image.mean(dim=1, keepdim=True)
    image = gray + (image - gray) * uniform(0.4, 1.2, size, 1, 1, 1)
    level = image.mean(dim=(1, 2, 3), keepdim=True)
    image = level + (image - level) * uniform(0.85, 1.15, size, 1, 1, 1)
    blurred = avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    image = torch.lerp(image, blurred, uniform(-0.2, 0.5, size, 1, 1, 1))
    noise = torch.randn(image.shape, generator=generator)
    return (image + uniform(0.0, 0.02, size, 1, 1, 1) * noise).clamp(0.0, 1.0)
