"""Shading against values by hand."""

import torch

from redepth_ros.core.relighting import blinn_phong, lambert, linear_from_srgb, srgb_from_linear


def vector(x: float, y: float, z: float) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.tensor([x, y, z], dtype=torch.float64), dim=0)[:, None, None]


def test_lambert_is_the_cosine_and_never_negative():
    assert abs(lambert(vector(0, 0, 1), vector(0, 1, 1)).item() - 0.5**0.5) < 1e-12
    assert lambert(vector(0, 0, 1), vector(0, 0, -1)).item() == 0.0


def test_blinn_phong_is_largest_in_the_mirror_direction():
    normal, view = vector(0, 0, 1), vector(0.3, 0, 1)
    mirrored = blinn_phong(normal, vector(-0.3, 0, 1), view, 32.0)
    torch.testing.assert_close(mirrored, torch.ones_like(mirrored))
    assert blinn_phong(normal, vector(0.3, 0, 1), view, 32.0) < mirrored


def test_linear_light_and_back():
    srgb = torch.linspace(0.01, 1.0, 50)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(srgb)), srgb)
    assert abs(linear_from_srgb(torch.tensor(0.5)).item() - 0.5**2.2) < 1e-7
