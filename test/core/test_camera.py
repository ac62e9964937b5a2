"""Geometry of cameras, against surfaces that are known in closed form."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from redepth_ros.core.camera import (
    OrthographicCamera,
    PinholeCamera,
    depth_from_disparity,
    normals_from_points,
)
from redepth_ros.core.errors import ConfigError

CAMERA = PinholeCamera(fx=60.0, fy=50.0, cx=31.5, cy=20.0, width=64, height=48)


def rays(camera=CAMERA):
    return camera.rays().double()


def grid(count):
    """Return columns and rows from -1 to 1, (count, count) each."""
    line = torch.linspace(-1.0, 1.0, count, dtype=torch.float64)
    return line.expand(count, count), line[:, None].expand(count, count)


def test_ray_of_the_principal_point_is_the_optical_axis():
    expected = torch.tensor([-0.5 / 60.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(rays()[:, 20, 31], expected, rtol=1e-6, atol=1e-9)


def test_x_is_right_and_y_is_down():
    assert rays()[0, 0, -1] > 0 > rays()[0, 0, 0]
    assert rays()[1, -1, 0] > 0 > rays()[1, 0, 0]


def test_each_focal_length_belongs_to_its_axis():
    found = rays()
    torch.testing.assert_close(found[0, 0, 63], torch.tensor((63 - 31.5) / 60.0).double())
    torch.testing.assert_close(found[1, 47, 0], torch.tensor((47 - 20.0) / 50.0).double())


def test_rays_made_in_inference_mode_take_part_in_optimisation():
    camera = PinholeCamera(7.0, 7.0, 2.0, 2.0, 5, 5)
    with torch.inference_mode():
        camera.rays()
    depth = torch.ones(5, 5, requires_grad=True)
    camera.points(depth).sum().backward()
    assert torch.isfinite(depth.grad).all()


def test_view_is_the_unit_vector_from_the_surface_to_the_camera():
    torch.testing.assert_close(CAMERA.view()[0], -normalize(CAMERA.rays(), dim=0))
    assert OrthographicCamera().view().flatten().tolist() == [0.0, 0.0, -1.0]


def test_points_project_to_their_pixels():
    depth = 1.0 + torch.rand(2, 48, 64)
    x, y, z = CAMERA.points(depth).unbind(-3)
    torch.testing.assert_close(z, depth)
    u, v = 60.0 * x / z + 31.5, 50.0 * y / z + 20.0
    torch.testing.assert_close(u, torch.arange(64.0).expand_as(u), rtol=0, atol=1e-3)
    torch.testing.assert_close(v, torch.arange(48.0)[:, None].expand_as(v), rtol=0, atol=1e-3)


def test_orthographic_points_span_two_units_of_height():
    points = OrthographicCamera().points(torch.full((5, 9), 3.0))
    torch.testing.assert_close(points[:, 0, 0], torch.tensor([-9 / 5, -1.0, 3.0]))
    torch.testing.assert_close(points[:, -1, -1], torch.tensor([9 / 5, 1.0, 3.0]))


def test_resized_camera_sees_the_same_rays():
    """A pixel of half the size has its centre a quarter pixel beside that of the large one."""
    smaller = CAMERA.resized(32, 24)
    assert (smaller.fx, smaller.fy) == (30.0, 25.0)
    # The centres of two large pixels are, on average, the centre of the small one.
    expected = CAMERA.rays().unflatten(2, (32, 2)).mean(3).unflatten(1, (24, 2)).mean(2)
    torch.testing.assert_close(smaller.rays(), expected, rtol=1e-5, atol=1e-6)
    assert smaller.resized(64, 48) == CAMERA


def test_resized_camera_keeps_an_uneven_aspect():
    wide = CAMERA.resized(128, 48)
    assert (wide.fx, wide.fy, wide.cx, wide.cy) == (120.0, 50.0, 63.5, 20.0)


def test_centered_camera_has_its_principal_point_in_the_middle():
    camera = PinholeCamera.centered(500.0, 640, 480)
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (500.0, 500.0, 319.5, 239.5)
    torch.testing.assert_close(camera.rays()[0].mean(), torch.tensor(0.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("normal", [(0.0, 0.0, -1.0), (0.4, -0.2, -0.9), (-0.5, 0.5, -0.7)])
def test_normals_of_a_plane(normal):
    expected = normalize(torch.tensor(normal, dtype=torch.float64), dim=0)
    # Points p with n . p = -2, two metres from the camera.
    depth = -2.0 / torch.einsum("c,chw->hw", expected, rays())
    torch.testing.assert_close(
        CAMERA.normals(depth), expected[:, None, None].expand(3, 48, 64), rtol=0, atol=1e-6
    )


def test_normals_of_a_sphere_point_outwards():
    center, radius = torch.tensor([0.1, -0.1, 4.0], dtype=torch.float64), 3.5
    directions = rays()
    a = (directions**2).sum(0)
    b = torch.einsum("chw,c->hw", directions, center)
    depth = (b - torch.sqrt(b**2 - a * (center @ center - radius**2))) / a
    points = CAMERA.points(depth)
    expected = (points - center[:, None, None]) / radius
    cosine = (normals_from_points(points) * expected).sum(0)[1:-1, 1:-1].clamp(-1, 1)
    assert torch.rad2deg(torch.acos(cosine)).max() < 0.2


def test_normals_of_a_saddle():
    u, v = grid(101)
    normals = OrthographicCamera().normals(4.0 + 0.5 * (u**2 - v**2))
    expected = normalize(torch.stack((u, -v, -torch.ones_like(u))), dim=0)
    torch.testing.assert_close(normals[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=0, atol=1e-9)


def test_normals_face_the_camera():
    depth = 2.0 + 0.1 * torch.rand(48, 64)
    points, normals = CAMERA.points(depth), CAMERA.normals(depth)
    assert ((points * normals).sum(0) < 0).all()


def test_normals_beside_an_invalid_pixel_are_nan():
    depth = torch.full((5, 5), 2.0)
    depth[2, 2] = math.nan
    invalid = OrthographicCamera().normals(depth).isnan().any(0)
    assert [invalid[at].item() for at in ((1, 2), (2, 1), (2, 3), (3, 2))] == [True] * 4
    assert not invalid[[0, 1, 3, 4], [0, 1, 3, 4]].any()


@pytest.mark.parametrize("camera", [PinholeCamera(8.0, 8.0, 2.0, 2.0, 5, 5), OrthographicCamera()])
def test_normals_have_gradients_that_match_finite_differences(camera):
    depth = 2.0 + 0.3 * torch.rand(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(camera.normals, depth.requires_grad_())


def test_depth_from_disparity_is_nan_at_and_beyond_infinity():
    disparity = torch.tensor([2.0, 0.5, 0.0, -0.5, -1.0])
    expected = torch.tensor([3.0 / 2.5, 3.0, 6.0, math.nan, math.nan])
    torch.testing.assert_close(depth_from_disparity(disparity, 3.0, 0.5), expected, equal_nan=True)
    assert depth_from_disparity(torch.tensor(math.nan)).isnan()


def test_depth_from_disparity_has_no_nan_gradients():
    disparity = torch.tensor([2.0, 0.0, -1.0], requires_grad=True)
    depth_from_disparity(disparity, 3.0).nan_to_num().sum().backward()
    torch.testing.assert_close(disparity.grad, torch.tensor([-3.0 / 4.0, 0.0, 0.0]))


@pytest.mark.parametrize(
    ("values", "quoted"),
    [
        ((0.0, 1.0, 0.0, 0.0, 4, 4), "fx is 0.0; it must be positive"),
        ((1.0, float("nan"), 0.0, 0.0, 4, 4), "fy is nan"),
        ((1.0, float("inf"), 0.0, 0.0, 4, 4), "fy is inf"),
        ((-1.0, 1.0, 0.0, 0.0, 4, 4), "fx is -1.0"),
        ((1e-300, 1.0, 0.0, 0.0, 4, 4), "fx is 1e-300"),  # 0 in float32
        ((1.0, 1.0, float("nan"), 0.0, 4, 4), "cx of the principal point is nan; it must be finite"),
        ((1.0, 1.0, 0.0, float("-inf"), 4, 4), "cy of the principal point is -inf"),
        ((1.0, 1.0, 0.0, 0.0, 0, 4), "0x4 pixels; both sides must be at least 1"),
        ((1.0, 1.0, 0.0, 0.0, 4, 0), "4x0"),
    ],
)
def test_camera_rejects_invalid_calibrations(values, quoted):
    with pytest.raises(ConfigError, match=quoted):
        PinholeCamera(*values)
