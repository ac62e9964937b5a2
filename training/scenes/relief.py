"""Relief scenes: continuous surfaces that fill the image, seen along parallel rays.

The error of a depth network on them lies in the slopes, which shading shows, and not in the
distance of whole objects. The frame is that of `core.camera.OrthographicCamera`: the image's
height is two units, the camera looks along z.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, normalize, pad

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.relighting import blinn_phong, lambert, srgb_from_linear
from training.scenes.render import Rendering
from training.scenes.textures import lookup

__all__ = ["BROAD", "NARROW", "sample_relief"]

NARROW = ("bumps", "ellipsoids", "ridges")
"""Kinds of surface of the narrow domain: plain paint, light from the upper left."""

BROAD = (*NARROW, "steps", "embossed", "cloth")
"""Kinds of surface of the broad domain: any texture, light from above from any side, some glossy."""

MIDDLE = 1.5
"""Mean depth of a surface, in half image heights."""

REACH = 0.4
"""Largest distance of a surface from its mean depth, in half image heights."""


def _blob(rng: np.random.Generator, x: Tensor, y: Tensor, low: float, high: float) -> Tensor:
    """Return squared distances from a random centre, in radii of a random ellipse: (S, S)."""
    u, v = x - rng.uniform(-1.0, 1.0), y - rng.uniform(-1.0, 1.0)
    angle, radius, stretch = rng.uniform(0.0, math.pi), rng.uniform(low, high), rng.uniform(0.5, 1.0)
    along = math.cos(angle) * u + math.sin(angle) * v
    across = math.cos(angle) * v - math.sin(angle) * u
    return (along / radius) ** 2 + (across / (radius * stretch)) ** 2


def _noise(rng: np.random.Generator, side: int, cells: int) -> Tensor:
    """Return smooth noise with `cells` cells across, about in [-1, 1]: (S, S)."""
    grid = torch.from_numpy(rng.uniform(-1.0, 1.0, (1, 1, cells + 3, cells + 3)).astype(np.float32))
    return interpolate(grid, (side, side), mode="bicubic", align_corners=False)[0, 0]


def _surface(rng: np.random.Generator, kind: str, x: Tensor, y: Tensor) -> Tensor:
    """Return random heights of one kind of surface, towards the camera, of any range: (S, S)."""
    side = x.shape[-1]
    height = torch.zeros_like(x)
    if kind == "bumps":
        for _ in range(int(rng.integers(4, 12))):
            sign = 1.0 if rng.random() < 0.7 else -1.0
            height += sign * rng.uniform(0.4, 1.0) * torch.exp(-_blob(rng, x, y, 0.12, 0.4))
    elif kind == "ellipsoids":
        caps = [
            rng.uniform(0.5, 1.0) * (1.0 - _blob(rng, x, y, 0.25, 0.6)).clamp_min(0.0).sqrt()
            for _ in range(int(rng.integers(3, 9)))
        ]
        height = torch.stack(caps).mul(10.0).logsumexp(0)
    elif kind == "ridges":
        angle, count = rng.uniform(0.0, math.pi), rng.uniform(0.8, 2.5)
        phase = math.pi * count * (math.cos(angle) * x + math.sin(angle) * y)
        wave = torch.sin(phase + rng.uniform(0.3, 1.5) * _noise(rng, side, 3))
        height = wave if rng.random() < 0.5 else 1.0 - (wave**2 + 0.02).sqrt()
    elif kind == "steps":
        for _ in range(int(rng.integers(2, 6))):
            angle = rng.uniform(0.0, 2.0 * math.pi)
            way = math.cos(angle) * x + math.sin(angle) * y + 0.3 * _noise(rng, side, 3)
            height += rng.uniform(0.3, 1.0) * torch.tanh(
                (way - rng.uniform(-0.8, 0.8)) / rng.uniform(0.05, 0.2)
            )
    elif kind == "embossed":
        for _ in range(int(rng.integers(2, 7))):
            distance = _blob(rng, x, y, 0.25, 0.6).sqrt() - 1.0
            if rng.random() < 0.4:
                distance = distance.abs() - rng.uniform(0.15, 0.4)
            sign = 1.0 if rng.random() < 0.6 else -1.0
            height += sign * rng.uniform(0.4, 1.0) * torch.sigmoid(-distance / rng.uniform(0.05, 0.15))
    else:
        for cells in (2, 3, 5):
            height += _noise(rng, side, cells) / cells
        folds = torch.sin(rng.uniform(3.0, 9.0) * (_noise(rng, side, 2) + rng.uniform(-1.0, 1.0) * x))
        height += rng.uniform(0.0, 0.4) * folds
    return height


def _remove_slow_waves(height: Tensor, sigma: float) -> Tensor:
    """Subtract the Gaussian average, sigma in pixels: (S, S)."""
    reach = int(3.0 * sigma)
    along = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    along = (along / along.sum())[None, None]
    slow = pad(height[None, None], (reach,) * 4, mode="reflect" if reach < height.shape[-1] else "replicate")
    slow = conv2d(conv2d(slow, along[..., None]), along[:, :, None])
    return height - slow[0, 0]


def _paint(rng: np.random.Generator, atlas: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
    """Return random colours of a surface in linear light, textured or plain: (3, S, S)."""
    side = x.shape[-1]
    tint = torch.from_numpy(rng.uniform(0.35, 0.95) * rng.uniform(0.8, 1.2, 3).astype(np.float32))
    if rng.random() < 0.2:
        return tint[:, None, None].expand(3, side, side)
    angle, repeats = rng.uniform(0.0, 2.0 * math.pi), float(np.exp(rng.uniform(np.log(0.3), np.log(1.5))))
    u = repeats * (math.cos(angle) * x + math.sin(angle) * y) + rng.uniform(0.0, 1.0)
    v = repeats * (math.cos(angle) * y - math.sin(angle) * x) + rng.uniform(0.0, 1.0)
    # Four samples per pixel against jagged edges of a pattern.
    half = 0.5 * repeats / side
    offsets = torch.tensor([(i, j) for i in (-half, half) for j in (-half, half)])
    uv = torch.stack((u, v), dim=-1).reshape(-1, 1, 2) + offsets  # (S * S, 4, 2)
    footprint = torch.full(uv.shape[:-1], 2.0 * half)
    texture = int(rng.integers(atlas[0].shape[0]))
    colors = lookup(atlas, texture, uv, footprint).mean(dim=1).T.reshape(3, side, side)
    gray = colors.mean(dim=0, keepdim=True)
    # Colour would tell paint from shape too easily; most paint is nearly grey.
    colors = gray + rng.uniform(0.0, 1.0) ** 2 * (colors - gray)
    colors = torch.lerp(gray.mean().expand_as(colors), colors, rng.uniform(0.2, 1.0))
    return 0.6 * tint[:, None, None] * colors / gray.mean().clamp_min(0.15)


def sample_relief(seed: int, atlas: tuple[Tensor, ...], side: int = 56, narrow: bool = False) -> Rendering:
    """Draw a square relief.

    Args:
        seed: the same seed gives the same relief on every machine, up to rounding.
        atlas: textures, see `textures.atlas`.
        side: of the image, in pixels.
        narrow: draw from the narrow domain.

    Returns:
        The image, its depth in half image heights and its normals, finite everywhere.
    """
    rng = np.random.default_rng([seed, 0x2E11EF])
    line = torch.linspace(-1.0, 1.0, side)
    x, y = line.expand(side, side), line[:, None].expand(side, side)
    kinds = NARROW if narrow else BROAD
    height = _surface(rng, str(rng.choice(kinds)), x, y)
    if rng.random() < 0.3:
        other = _surface(rng, str(rng.choice(kinds)), x, y)
        height = height / height.std().clamp_min(1e-6) + 0.6 * other / other.std().clamp_min(1e-6)
    height = _remove_slow_waves(height, side / 8.0)
    slopes = torch.stack(torch.gradient(height, spacing=2.0 / (side - 1)))
    height = height * rng.uniform(0.45, 0.8) / slopes.square().sum(0).mean().sqrt().clamp_min(1e-6)
    depth = MIDDLE - height * (REACH / height.abs().max().clamp_min(REACH))  # (S, S)
    normals = OrthographicCamera().normals(depth)  # (3, S, S)

    if narrow:
        paint = torch.full((3, 1, 1), rng.uniform(0.4, 0.9))
        toward = torch.tensor([rng.uniform(-1.0, -0.3), rng.uniform(-1.0, -0.3), -1.0])
    else:
        paint = _paint(rng, atlas, x, y)
        # Light from below would make a hollow look like a bump.
        toward = torch.tensor([rng.uniform(-1.0, 1.0), rng.uniform(-1.0, -0.2), -1.0])
    light = normalize(toward, dim=0)[:, None, None]
    ambient, gloss, shininess = rng.uniform(0.1, 0.35), 0.0, 1.0
    if not narrow and rng.random() < 0.5:
        gloss, shininess = rng.uniform(0.05, 0.4), 2.0 ** rng.uniform(3.0, 6.0)
    view = torch.tensor([0.0, 0.0, -1.0])[:, None, None]
    linear = paint * (ambient + (1.0 - ambient) * lambert(normals, light))
    linear = linear + gloss * blinn_phong(normals, light, view, shininess)
    return Rendering(srgb_from_linear(linear.clamp(1e-3, 1.0)), depth, normals)
