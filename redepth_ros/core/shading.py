"""Reflection of light by a surface: linear light, Lambert and Blinn-Phong terms.

Vectors lie along dimension -3, as in (..., 3, H, W); normals, light and view must be in
one common frame, whichever it is. Light and view point away from the surface, to the
light and to the eye.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["blinn_phong", "lambert", "linear_from_srgb", "srgb_from_linear"]

GAMMA = 2.2
"""The power that stands in for the sRGB curve, as in Re-Depth Anything, section 3.2."""


def linear_from_srgb(srgb: Tensor) -> Tensor:
    """Linear light of an sRGB picture, both in 0..1."""
    return srgb**GAMMA


def srgb_from_linear(linear: Tensor) -> Tensor:
    """The sRGB picture of linear light, both in 0..1 (the gradient is infinite at 0)."""
    return linear ** (1.0 / GAMMA)


def lambert(normals: Tensor, light: Tensor) -> Tensor:
    """Diffuse term max(n . l, 0) of unit vectors: (..., 1, H, W)."""
    return (normals * light).sum(dim=-3, keepdim=True).clamp_min(0.0)


def blinn_phong(normals: Tensor, light: Tensor, view: Tensor, shininess: Tensor | float) -> Tensor:
    """Specular term max(n . h, 0) ** shininess, h halfway between light and view.

    Source: Blinn, Models of light reflection for computer synthesized pictures (1977).
    Returns (..., 1, H, W).
    """
    half = torch.nn.functional.normalize(light + view, dim=-3)
    return lambert(normals, half) ** shininess
