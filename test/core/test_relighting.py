"""Re-lighting and smoothness: the authors' own values, named lights, gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from redepth_ros.core.camera import normals_from_points, orthographic_points
from redepth_ros.core.relighting import Lighting, relight
from redepth_ros.core.refine.losses import (
    edge_aware_smoothness,
    laplacian_smoothness,
    scaled_to_unit,
)

DATA = Path(__file__).parent / "data"
VIEW = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64)[:, None, None]


def lighting_of(direction, diffuse=1.0, specular=0.0, shininess=8.0, ambient=0.0) -> Lighting:
    def scalar(value):
        return torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1, 1)

    toward = normalize(torch.tensor(direction, dtype=torch.float64), dim=0)[None, :, None, None]
    return Lighting(toward, scalar(diffuse), scalar(specular), scalar(shininess), scalar(ambient))


@pytest.fixture(params=[0, 1])
def oracle(request):
    with np.load(DATA / f"relight_{request.param}.npz") as stored:
        return {name: torch.from_numpy(np.asarray(stored[name], np.float64)) for name in stored}


def test_normals_are_the_published_ones_in_our_frame(oracle):
    """Ours: x right, y down, z into the scene. Theirs: y up, z to the viewer, x and y mirrored."""
    ours = normals_from_points(orthographic_points(oracle["depth"]))
    theirs = oracle["normals"] * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)


def test_the_authors_relighting_is_reproduced(oracle):
    x, y = oracle["light_xy"].tolist()
    diffuse, specular = oracle["weights_diffuse_specular"].tolist()
    lighting = lighting_of((-x, y, -1.0), diffuse, specular, oracle["shininess"].item())
    normals = normals_from_points(orthographic_points(oracle["depth"]))
    found = relight(oracle["image_srgb"][None], normals[None], VIEW, lighting)[0]
    # The stored depth is rounded to float32, which the shininess amplifies.
    torch.testing.assert_close(found, oracle["relit_srgb"], rtol=0, atol=5e-5)


def test_the_authors_smoothness_is_reproduced(oracle):
    found = laplacian_smoothness(scaled_to_unit(oracle["depth"][None]))
    torch.testing.assert_close(found, oracle["smoothness"], rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("direction", "side"),
    [((1, 0, -1), "right"), ((-1, 0, -1), "left"), ((0, -1, -1), "top"), ((0, 1, -1), "bottom")],
)
def test_a_light_from_a_side_lights_that_side_of_a_ball(direction, side):
    v, u = torch.meshgrid(*[torch.linspace(-1, 1, 41, dtype=torch.float64)] * 2, indexing="ij")
    depth = 3.0 - torch.sqrt((2.5 - u**2 - v**2).clamp_min(0.0))  # bulges towards the camera
    normals = normals_from_points(orthographic_points(depth))
    image = torch.full((1, 3, 41, 41), 0.7, dtype=torch.float64)
    lit = relight(image, normals[None], VIEW, lighting_of(direction))[0, 0]
    brightness = {"right": lit[20, 35], "left": lit[20, 5], "top": lit[5, 20], "bottom": lit[35, 20]}
    assert max(brightness, key=brightness.get) == side


def test_a_plane_that_faces_light_and_camera_keeps_its_picture():
    depth = torch.full((8, 9), 2.0, dtype=torch.float64)
    normals = normals_from_points(orthographic_points(depth))
    torch.testing.assert_close(normals, VIEW.expand_as(normals))
    image = 0.1 + 0.8 * torch.rand(1, 3, 8, 9, dtype=torch.float64)
    for ambient in (0.0, 0.4):
        found = relight(image, normals[None], VIEW, lighting_of((0, 0, -1), ambient=ambient))
        torch.testing.assert_close(found, image)


def test_normals_of_a_saddle():
    v, u = torch.meshgrid(*[torch.linspace(-1, 1, 101, dtype=torch.float64)] * 2, indexing="ij")
    normals = normals_from_points(orthographic_points(4.0 + 0.5 * (u**2 - v**2)))
    expected = normalize(torch.stack((u, -v, -torch.ones_like(u))), dim=0)
    torch.testing.assert_close(normals[:, 1:-1, 1:-1], expected[:, 1:-1, 1:-1], rtol=0, atol=1e-9)


def test_gradients_of_the_whole_way_from_depth_to_picture():
    torch.manual_seed(0)
    image = 0.2 + 0.6 * torch.rand(1, 3, 5, 6, dtype=torch.float64)
    lighting = lighting_of((0.3, -0.2, -1.0), 0.6, 0.3, 4.0, 0.2)

    def shade(depth):
        return relight(image, normals_from_points(orthographic_points(depth)), VIEW, lighting)

    depth = (2.0 + 0.1 * torch.rand(1, 5, 6, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(shade, depth)


def test_smoothness_of_planes_and_bumps():
    v, u = torch.meshgrid(*[torch.arange(20, dtype=torch.float64)] * 2, indexing="ij")
    ramp = (u + 2 * v)[None]
    laplacian = torch.nn.functional.conv2d(
        ramp[:, None], torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]]).double()
    )
    assert laplacian.abs().max() == 0.0
    rough = ramp + torch.randn(1, 20, 20, dtype=torch.float64)
    assert laplacian_smoothness(rough) > laplacian_smoothness(ramp)


def test_edges_of_the_picture_excuse_edges_of_the_map():
    step = torch.zeros(1, 10, 10, dtype=torch.float64)
    step[..., 5:] = 1.0
    flat, same = torch.zeros(1, 3, 10, 10).double(), step[:, None].expand(1, 3, 10, 10)
    assert edge_aware_smoothness(step, same) < 1e-3 * edge_aware_smoothness(step, flat)


def test_scaling_to_unit_is_affine_invariant():
    values = torch.rand(2, 4, 5, dtype=torch.float64)
    torch.testing.assert_close(scaled_to_unit(3.0 * values + 7.0), scaled_to_unit(values))
    assert scaled_to_unit(torch.ones(1, 3, 3)).abs().max() == 0.0
