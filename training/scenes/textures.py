"""The atlas: square seamless textures, procedural ones and crops of scikit-image's images.

The crops come from images of materials (brick, grass, print, tissue). Photographs of objects are
left out: the demo and the tests use them, and a network must not learn that a photograph of an
object is a flat wall.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

__all__ = ["SIZE", "atlas", "lookup"]

SIZE = 128
"""Side of a texture, in texels."""

LEVELS = 6
"""Levels of the mip pyramid; each has half the side of the one before."""

MATERIALS = ("brick", "grass", "gravel", "ihc", "moon", "page", "text", "retina", "hubble_deep_field")
"""Images of scikit-image from which the crops are cut."""

RECIPES = {
    "plain": 0.3,
    "cloud": 0.2,
    "speckle": 0.08,
    "checks": 0.06,
    "stripes": 0.08,
    "tiles": 0.1,
    "wood": 0.1,
    "bars": 0.08,
}
"""Procedural recipes with probabilities; most real surfaces are nearly plain."""


def _noise(rng: np.random.Generator, octaves: range, falloff: float) -> Tensor:
    """Return seamless value noise: (SIZE, SIZE), in [-1, 1]."""
    total = torch.zeros(SIZE, SIZE)
    for octave in octaves:
        cells = 2**octave
        grid = torch.from_numpy(rng.uniform(-1.0, 1.0, (1, 1, cells, cells)).astype(np.float32))
        wrapped = torch.nn.functional.pad(grid, (1, 1, 1, 1), mode="circular")
        stride = SIZE // cells
        fine = interpolate(wrapped, scale_factor=stride, mode="bicubic", align_corners=False)
        total += falloff**octave * fine[0, 0, stride:-stride, stride:-stride]
    return total / total.abs().amax()


def _blend(mask: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix two random colors by a mask in [0, 1]: (3, SIZE, SIZE), linear light."""
    bright = torch.from_numpy(rng.uniform(0.35, 1.0, (3, 1, 1)).astype(np.float32))
    other = (bright * float(rng.uniform(0.1, 0.9))).clamp(0.02, 1.0)
    if rng.random() < 0.4:
        other = torch.from_numpy(rng.uniform(0.03, 0.9, (3, 1, 1)).astype(np.float32))
    return bright * mask + other * (1.0 - mask)


def _procedural(rng: np.random.Generator) -> Tensor:
    """Draw one procedural texture: (3, SIZE, SIZE), linear light in [0, 1]."""
    v, u = torch.meshgrid(torch.arange(SIZE) / SIZE, torch.arange(SIZE) / SIZE, indexing="ij")
    soft = 0.5 + 0.5 * _noise(rng, range(1, 6), 0.6)
    fine = 0.5 + 0.5 * _noise(rng, range(3, 7), 0.9)
    count = int(rng.integers(1, 6))
    recipe = str(rng.choice(list(RECIPES), p=list(RECIPES.values())))
    if recipe == "plain":
        mask = 0.9 + 0.1 * fine
    elif recipe == "cloud":
        mask = soft
    elif recipe == "speckle":
        mask = (fine > float(rng.uniform(0.4, 0.7))).float()
    elif recipe == "checks":
        mask = (((u * 2 * count).floor() + (v * 2 * count).floor()) % 2).float()
    elif recipe == "stripes":
        mask = ((u * 2 * count).floor() % 2).float()
    elif recipe == "tiles":
        joint = 0.06 * count
        row = (v * 2 * count).floor()
        shifted = u * count + 0.5 * (row % 2) * float(rng.random() < 0.5)
        mask = 1.0 - ((shifted % 1.0 < joint / 2) | (v * 2 * count % 1.0 < joint)).float()
        mask = mask * (0.8 + 0.2 * soft)
    elif recipe == "wood":
        mask = 0.5 + 0.5 * torch.sin(2 * np.pi * (count * 2 * u + 1.5 * soft))
        mask = 0.6 * mask + 0.4 * fine
    else:
        mask = torch.sin(2 * np.pi * (count * u + 0.3 * soft)) > float(rng.uniform(-0.5, 0.8))
        mask = mask.float() * (0.9 + 0.1 * fine)
    return _blend(mask, rng) * (1.0 - 0.25 * float(rng.random()) * fine)


def _crops(rng: np.random.Generator, count: int) -> list[Tensor]:
    """Draw mirrored patches of scikit-image's images: (3, SIZE, SIZE) each, linear light."""
    import cv2
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    images = []
    for name in MATERIALS:
        path = next(folder.glob(f"{name}.*"))
        images.append(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
    crops = []
    for index in range(count):
        image = images[index % len(images)]
        side = int(rng.integers(48, 128))
        top = int(rng.integers(0, image.shape[0] - side))
        left = int(rng.integers(0, image.shape[1] - side))
        patch = image[top : top + side, left : left + side].astype(np.float32) / 255.0
        half = cv2.resize(patch, (SIZE // 2, SIZE // 2), interpolation=cv2.INTER_AREA) ** 2.2
        # A patch that is mirrored both ways has no seam where it repeats.
        seamless = np.concatenate((half, half[::-1]), axis=0)
        seamless = np.concatenate((seamless, seamless[:, ::-1]), axis=1)
        crops.append(torch.from_numpy(seamless.transpose(2, 0, 1).copy()))
    return crops


@lru_cache(maxsize=2)
def atlas(seed: int = 0, procedural: int = 160, photographic: int = 96) -> tuple[Tensor, ...]:
    """Return the textures of a seed as a mip pyramid, finest first: (N, 3, s, s), linear light."""
    rng = np.random.default_rng([seed, 0x7E87])
    textures = [_procedural(rng) for _ in range(procedural)] + _crops(rng, photographic)
    pyramid = [torch.stack(textures).clamp(0.0, 1.0)]
    for _ in range(LEVELS - 1):
        pyramid.append(avg_pool2d(pyramid[-1], 2))
    return tuple(pyramid)


def lookup(pyramid: tuple[Tensor, ...], index: int, uv: Tensor, footprint: Tensor) -> Tensor:
    """Return texture colors from the level whose texel size fits the pixel size.

    Args:
        pyramid: the atlas.
        index: of the texture.
        uv: (..., 2), one repetition per unit.
        footprint: (...) size of a pixel, in repetitions.

    Returns:
        (..., 3) linear light.
    """
    level = (footprint * SIZE).clamp_min(1.0).log2().round().long().clamp_max(len(pyramid) - 1)
    colors = torch.empty(*uv.shape[:-1], 3)
    for at, textures in enumerate(pyramid):
        chosen = level == at
        if chosen.any():
            side = textures.shape[-1]
            cell = (uv[chosen] * side).floor().long() % side
            colors[chosen] = textures[index][:, cell[:, 1], cell[:, 0]].T
    return colors
