"""Re-lighting: a picture as it would look under a light of our own choice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from redepth_ros.core.relighting import blinn_phong, lambert, linear_from_srgb, srgb_from_linear

__all__ = ["Lighting", "relight"]

DARKEST = 1e-3
"""Linear light below which a re-lit picture does not go: there the sRGB curve is too steep."""


@dataclass(frozen=True)
class Lighting:
    """One distant light for each picture of a batch, and how surfaces answer it.

    Every field has a leading batch dimension, or broadcasts over it.
    """

    direction: Tensor
    """Unit vectors to the light, (B, 3, 1, 1), in the frame of the normals. In the camera's
    optical frame a light before the scene has z < 0."""
    diffuse: Tensor
    """Weight k_d of the Lambert term, (B, 1, 1, 1)."""
    specular: Tensor
    """Weight k_s of the Blinn-Phong term, (B, 1, 1, 1)."""
    shininess: Tensor
    """Exponent of the Blinn-Phong term, (B, 1, 1, 1)."""
    ambient: Tensor
    """Share of the diffuse term that comes from everywhere, 0..1, (B, 1, 1, 1)."""

    def mirrored(self) -> Lighting:
        """The lights of the mirrored scene: left is right."""
        return replace(
            self, direction=self.direction * self.direction.new_tensor([-1.0, 1.0, 1.0])[:, None, None]
        )


def relight(image: Tensor, normals: Tensor, view: Tensor, lighting: Lighting) -> Tensor:
    """The picture re-lit, as if its colours were the surface's.

    In linear light I: k_d (a + (1 - a) max(n . l, 0)) I + k_s max(n . h, 0)^shininess. With
    an ambient share a of 0 that is Re-Depth Anything's equation of section 3.2.

    Args:
        image: (B, 3, H, W) sRGB in 0..1.
        normals: (B, 3, H, W) unit vectors.
        view: (B, 3, H, W) or broadcastable, unit vectors to the camera: (0, 0, -1) in the
            optical frame for parallel rays.
        lighting: a light for each picture, in the normals' frame.

    Returns:
        (B, 3, H, W) sRGB in 0..1.
    """
    diffuse = lambert(normals, lighting.direction)  # (B, 1, H, W)
    diffuse = lighting.ambient + (1.0 - lighting.ambient) * diffuse
    specular = blinn_phong(normals, lighting.direction, view, lighting.shininess)
    linear = lighting.diffuse * diffuse * linear_from_srgb(image) + lighting.specular * specular
    return srgb_from_linear(torch.clamp(linear, DARKEST, 1.0))
