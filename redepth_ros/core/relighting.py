"""Re-lighting: an image as it would look under a random virtual light.

Vectors lie along dimension -3, as in (..., 3, H, W). Normals, light and view are in one
common frame; light and view point away from the surface.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from redepth_ros.core.errors import ConfigError

__all__ = [
    "LIGHT_STYLES",
    "Lighting",
    "blinn_phong",
    "lambert",
    "linear_from_srgb",
    "relight",
    "sample_lighting",
    "srgb_from_linear",
]

GAMMA = 2.2
"""Exponent that approximates the sRGB curve, as in Re-Depth Anything, section 3.2."""

MIN_RADIANCE = 1e-3
"""Lower limit of re-lit linear light: below it the sRGB curve is too steep."""

LIGHT_STYLES = ("paper", "soft")
"""Distributions of lights, see `sample_lighting`."""


@dataclass(frozen=True)
class Lighting:
    """One distant light for each image of a batch, and the reflectance of the surfaces.

    Every field has a leading batch dimension or broadcasts over it.
    """

    direction: Tensor
    """Unit vectors to the light, (B, 3, 1, 1), in the frame of the normals. In the camera's
    optical frame, a light on the camera's side of the scene has z < 0."""
    diffuse: Tensor
    """Weight k_d of the Lambert term, (B, 1, 1, 1)."""
    specular: Tensor
    """Weight k_s of the Blinn-Phong term, (B, 1, 1, 1)."""
    shininess: Tensor
    """Exponent of the Blinn-Phong term, (B, 1, 1, 1)."""
    ambient: Tensor
    """Share of the diffuse term that comes from all directions, in [0, 1], (B, 1, 1, 1)."""

    def mirrored(self) -> Lighting:
        """Return the lights of the horizontally mirrored scene."""
        flip = self.direction.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
        return replace(self, direction=self.direction * flip)

    def select(self, index: Tensor, device: torch.device) -> Lighting:
        """Return the lights of some images of the batch, on a device."""
        return Lighting(**{one.name: getattr(self, one.name)[index].to(device) for one in fields(Lighting)})


def linear_from_srgb(srgb: Tensor) -> Tensor:
    """Convert sRGB to linear light, both in [0, 1]."""
    return srgb**GAMMA


def srgb_from_linear(linear: Tensor) -> Tensor:
    """Convert linear light to sRGB, both in [0, 1] (the gradient is infinite at 0)."""
    return linear ** (1.0 / GAMMA)


def lambert(normals: Tensor, light: Tensor) -> Tensor:
    """Return the diffuse term max(n . l, 0) of unit vectors: (..., 1, H, W)."""
    return (normals * light).sum(dim=-3, keepdim=True).clamp_min(0.0)


def blinn_phong(normals: Tensor, light: Tensor, view: Tensor, shininess: Tensor | float) -> Tensor:
    """Return the specular term max(n . h, 0) ** shininess, h halfway between light and view.

    Source: Blinn, Models of light reflection for computer synthesized pictures (1977).

    Returns:
        (..., 1, H, W).
    """
    half = normalize(light + view, dim=-3)
    return lambert(normals, half) ** shininess


def relight(image: Tensor, normals: Tensor, view: Tensor, lighting: Lighting) -> Tensor:
    """Re-light an image, taking its colours for the surface's albedo.

    In linear light I: k_d (a + (1 - a) max(n . l, 0)) I + k_s max(n . h, 0)^shininess. With an
    ambient share a of 0 this is Re-Depth Anything's equation of section 3.2.

    Args:
        image: (B, 3, H, W) sRGB in [0, 1].
        normals: (B, 3, H, W) unit vectors.
        view: (B, 3, H, W) or broadcastable, unit vectors to the camera.
        lighting: a light for each image, in the frame of the normals.

    Returns:
        (B, 3, H, W) sRGB in [0, 1].
    """
    diffuse = lambert(normals, lighting.direction)  # (B, 1, H, W)
    diffuse = lighting.ambient + (1.0 - lighting.ambient) * diffuse
    specular = blinn_phong(normals, lighting.direction, view, lighting.shininess)
    linear = lighting.diffuse * diffuse * linear_from_srgb(image) + lighting.specular * specular
    return srgb_from_linear(torch.clamp(linear, MIN_RADIANCE, 1.0))  # (B, 3, H, W)


def sample_lighting(style: str, count: int, generator: torch.Generator) -> Lighting:
    """Sample random lights in the camera's optical frame, on the camera's side of the scene.

    Directions are normalise(a, b, -1), with a and b uniform in [-1, 1], in both styles.

    - paper: Re-Depth Anything, section 3.2: weights uniform and scaled to sum 1, shininess
      2^e with integer e uniform in [2, 7], no ambient light.
    - soft: diffuse weight 1, of which 0.05 to 0.3 is ambient, so that no side is black; half
      of the lights add a specular term of 0 to 0.4; shininess 2^e with e uniform in [3, 6].

    Args:
        style: one of LIGHT_STYLES.
        count: number of lights.
        generator: on the CPU, so that a seed gives the same lights on every device.

    Raises:
        ConfigError: another style.
    """

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    toward = torch.cat((uniform(-1.0, 1.0), uniform(-1.0, 1.0), uniform(-1.0, -1.0)), dim=1)
    direction = normalize(toward, dim=1)  # (count, 3, 1, 1)
    if style == "paper":
        diffuse, specular = uniform(0.0, 1.0), uniform(0.0, 1.0)
        total = (diffuse + specular).clamp_min(1e-6)
        exponent = torch.randint(2, 8, (count, 1, 1, 1), generator=generator)
        ambient = torch.zeros_like(diffuse)
        return Lighting(direction, diffuse / total, specular / total, 2.0**exponent, ambient)
    if style == "soft":
        ambient = uniform(0.05, 0.3)
        specular = uniform(0.0, 0.4) * (uniform(0.0, 1.0) < 0.5)
        return Lighting(direction, torch.ones_like(ambient), specular, 2.0 ** uniform(3.0, 6.0), ambient)
    raise ConfigError(f"light style is {style!r}; it must be one of: {', '.join(LIGHT_STYLES)}")
