"""Random virtual lights."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.relighting import Lighting

__all__ = ["STYLES", "draw_lighting"]

STYLES = ("paper", "soft")
"""Distributions of lights, see `draw_lighting`."""


def draw_lighting(style: str, count: int, generator: torch.Generator) -> Lighting:
    """So many random lights in the camera's optical frame, before the scene.

    Directions are normalise(a, b, -1), a and b uniform in -1..1, in both styles.

    - paper: Re-Depth Anything, section 3.2: weights uniform and scaled to sum 1, shininess
      2^e with e uniform among 2..7, nothing ambient.
    - soft: diffuse weight 1 of which 0.05..0.3 is ambient, so that no side goes black; half
      of the lights add a specular term of 0..0.4; shininess 2^e with e uniform in 3..6.

    Args:
        style: one of STYLES.
        count: of lights.
        generator: on the CPU, so that a seed draws the same lights on every device.

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
        return Lighting(
            direction, diffuse / total, specular / total, 2.0**exponent, torch.zeros_like(diffuse)
        )
    if style == "soft":
        ambient = uniform(0.05, 0.3)
        specular = uniform(0.0, 0.4) * (uniform(0.0, 1.0) < 0.5)
        return Lighting(direction, torch.ones_like(ambient), specular, 2.0 ** uniform(3.0, 6.0), ambient)
    raise ConfigError(f"lighting is {style!r}; it must be one of: {', '.join(STYLES)}")
