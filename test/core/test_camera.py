"""Geometry against surfaces that are known in closed form."""

import math

import pytest
import torch

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.camera import (
    depth_from_disparity,
    limit_depth,
    normals_from_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics

CAMERA = Intrinsics(fx=60.0, fy=50.0, cx=31.5, cy=20.0, width=64, height=48)


def rays() -> torch.Tensor:
    return pixel_rays(CAMERA, dtype=torch.float64)


def test_ray_of_the_principal_point_is_the_optical_axis():
    torch.testing.assert_close(rays()[:, 20, 31], torch.tensor([-0.5 / 60.0, 0.0, 1.0], dtype=torch.float64))


def test_x_is_right_and_y_is_down():
    assert rays()[0, 0, -1] > 0 > rays()[0, 0, 0]
    assert rays()[1, -1, 0] > 0 > rays()[1, 0, 0]


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.4, -0.2, -0.9), (-0.5, 0.5, -0.7)])
def test_normals_of_a_plane(normal):
    expected = torch.tensor(normal, dtype=torch.float64)
    expected = expected / expected.norm()
    # Points p with n . p = -2, two metres from the camera.
    depth = -2.0 / torch.einsum("c,chw->hw", expected, rays())
    normals = normals_from_points(points_from_depth(depth, rays()))
    torch.testing.assert_close(normals, expected[:, None, None].expand_as(normals))


def test_normals_of_a_sphere_point_outwards():
    centre, radius = torch.tensor([0.1, -0.1, 4.0], dtype=torch.float64), 3.5
    directions = rays()
    a = (directions**2).sum(0)
    b = torch.einsum("chw,c->hw", directions, centre)
    depth = (b - torch.sqrt(b**2 - a * (centre @ centre - radius**2))) / a
    points = points_from_depth(depth, directions)
    expected = (points - centre[:, None, None]) / radius
    found = normals_from_points(points)
    cosine = (found * expected).sum(0)[1:-1, 1:-1].clamp(-1, 1)
    assert torch.rad2deg(torch.acos(cosine)).max() < 0.2


def test_normals_have_gradients_that_match_finite_differences():
    small = Intrinsics(8.0, 8.0, 2.0, 2.0, 5, 5)
    directions = pixel_rays(small, dtype=torch.float64)
    depth = (2.0 + 0.3 * torch.rand(5, 5, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: normals_from_points(points_from_depth(d, directions)), depth)


def test_depth_from_disparity():
    disparity = torch.tensor([2.0, 0.5, 0.0, -1.0])
    expected = torch.tensor([3.0 / 2.5, 3.0, 6.0, math.nan])
    torch.testing.assert_close(depth_from_disparity(disparity, 3.0, 0.5), expected, equal_nan=True)


def test_limit_depth_is_nan_outside():
    depth = torch.tensor([0.1, 1.0, 9.0, 11.0, math.inf, math.nan])
    expected = torch.tensor([math.nan, 1.0, 9.0, math.nan, math.nan, math.nan])
    torch.testing.assert_close(limit_depth(depth, 0.5, 10.0), expected, equal_nan=True)
    assert limit_depth(torch.zeros(1), 0.0, 10.0).isnan().all(), "a point at the origin is none"


@pytest.mark.parametrize(
    ("values", "quoted"),
    [
        ((0.0, 1.0, 0.0, 0.0, 4, 4), "fx is 0.0"),
        ((1.0, float("nan"), 0.0, 0.0, 4, 4), "fy is nan"),
        ((1.0, 1.0, 0.0, 0.0, 0, 4), "0x4"),
    ],
)
def test_intrinsics_that_can_not_be_are_refused(values, quoted):
    with pytest.raises(ConfigError, match=quoted):
        Intrinsics(*values)
