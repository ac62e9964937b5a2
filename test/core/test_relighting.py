"""Re-lighting: the authors' own values, values by hand, distributions of lights, gradients."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.relighting import (
    LIGHT_STYLES,
    Lighting,
    blinn_phong,
    lambert,
    linear_from_srgb,
    relight,
    sample_lighting,
    srgb_from_linear,
)

DATA = Path(__file__).parent / "data"
CAMERA = OrthographicCamera()
VIEW = CAMERA.view()[0].double()  # (3, 1, 1)


def lighting_of(direction, diffuse=1.0, specular=0.0, shininess=8.0, ambient=0.0) -> Lighting:
    def scalar(value):
        return torch.tensor(value, dtype=torch.float64).reshape(1, 1, 1, 1)

    toward = normalize(torch.tensor(direction, dtype=torch.float64), dim=0)[None, :, None, None]
    return Lighting(toward, scalar(diffuse), scalar(specular), scalar(shininess), scalar(ambient))


def vector(x: float, y: float, z: float) -> torch.Tensor:
    return normalize(torch.tensor([x, y, z], dtype=torch.float64), dim=0)[:, None, None]


def sample(style, count=4000, seed=0):
    return sample_lighting(style, count, torch.Generator().manual_seed(seed))


@pytest.fixture(params=[0, 1])
def oracle(request):
    with np.load(DATA / f"relight_{request.param}.npz") as stored:
        return {name: torch.from_numpy(np.asarray(stored[name], np.float64)) for name in stored}


def test_normals_are_the_published_ones_in_our_frame(oracle):
    """Ours: x right, y down, z into the scene. Theirs: y up, z to the viewer, x and y mirrored."""
    theirs = oracle["normals"] * torch.tensor([-1.0, 1.0, -1.0], dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(CAMERA.normals(oracle["depth"]), theirs, rtol=0, atol=2e-5)


def test_the_authors_relighting_is_reproduced(oracle):
    x, y = oracle["light_xy"].tolist()
    diffuse, specular = oracle["weights_diffuse_specular"].tolist()
    lighting = lighting_of((-x, y, -1.0), diffuse, specular, oracle["shininess"].item())
    found = relight(oracle["image_srgb"][None], CAMERA.normals(oracle["depth"])[None], VIEW, lighting)[0]
    # The stored depth is rounded to float32, which the shininess amplifies.
    torch.testing.assert_close(found, oracle["relit_srgb"], rtol=0, atol=5e-5)


def test_lambert_is_the_cosine_and_never_negative():
    assert lambert(vector(0, 0, 1), vector(0, 1, 1)).item() == pytest.approx(0.5**0.5)
    assert lambert(vector(0, 0, 1), vector(0, 0, -1)).item() == 0.0


def test_blinn_phong_is_largest_in_the_mirror_direction():
    normal, view = vector(0, 0, 1), vector(0.3, 0, 1)
    mirrored = blinn_phong(normal, vector(-0.3, 0, 1), view, 32.0)
    torch.testing.assert_close(mirrored, torch.ones_like(mirrored))
    assert blinn_phong(normal, vector(0.3, 0, 1), view, 32.0) < mirrored


def test_blinn_phong_raises_the_cosine_of_the_half_vector_to_the_shininess():
    found = blinn_phong(vector(0, 0, 1), vector(1, 0, 1), vector(0, 0, 1), 5.0)
    assert found.item() == pytest.approx(np.cos(np.deg2rad(22.5)) ** 5)


def test_srgb_and_linear_light_are_inverse():
    srgb = torch.linspace(0.01, 1.0, 50)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(srgb)), srgb)
    assert linear_from_srgb(torch.tensor(0.5)).item() == pytest.approx(0.5**2.2)


@pytest.mark.parametrize(
    ("direction", "side"),
    [((1, 0, -1), "right"), ((-1, 0, -1), "left"), ((0, -1, -1), "top"), ((0, 1, -1), "bottom")],
)
def test_a_light_from_a_side_lights_that_side_of_a_ball(direction, side):
    v, u = torch.meshgrid(*[torch.linspace(-1, 1, 41, dtype=torch.float64)] * 2, indexing="ij")
    depth = 3.0 - torch.sqrt((2.5 - u**2 - v**2).clamp_min(0.0))  # bulges towards the camera
    image = torch.full((1, 3, 41, 41), 0.7, dtype=torch.float64)
    lit = relight(image, CAMERA.normals(depth)[None], VIEW, lighting_of(direction))[0, 0]
    brightness = {"right": lit[20, 35], "left": lit[20, 5], "top": lit[5, 20], "bottom": lit[35, 20]}
    assert max(brightness, key=brightness.get) == side


def test_a_plane_that_faces_light_and_camera_keeps_its_image():
    normals = CAMERA.normals(torch.full((8, 9), 2.0, dtype=torch.float64))
    torch.testing.assert_close(normals, VIEW.expand_as(normals))
    image = 0.1 + 0.8 * torch.rand(1, 3, 8, 9, dtype=torch.float64)
    for ambient in (0.0, 0.4):
        found = relight(image, normals[None], VIEW, lighting_of((0, 0, -1), ambient=ambient))
        torch.testing.assert_close(found, image)


def test_ambient_light_is_a_share_of_the_diffuse_term():
    normals = VIEW.expand(1, 3, 4, 4)
    image = torch.full((1, 3, 4, 4), 0.8, dtype=torch.float64)
    behind = lighting_of((0, 0, 1), diffuse=0.5, ambient=0.3)
    expected = srgb_from_linear(0.5 * 0.3 * linear_from_srgb(image))
    torch.testing.assert_close(relight(image, normals, VIEW, behind), expected)


def test_the_specular_term_has_the_colour_of_the_light():
    normals = VIEW.expand(1, 3, 4, 4)
    image = torch.tensor([0.5, 0.2, 0.1], dtype=torch.float64)[None, :, None, None].expand(1, 3, 4, 4)
    found = linear_from_srgb(relight(image, normals, VIEW, lighting_of((0, 0, -1), 0.5, 0.25)))
    torch.testing.assert_close(found, 0.5 * linear_from_srgb(image) + 0.25)


def test_gradients_from_depth_to_image_match_finite_differences():
    generator = torch.Generator().manual_seed(0)
    image = 0.2 + 0.6 * torch.rand(1, 3, 5, 6, dtype=torch.float64, generator=generator)
    lighting = lighting_of((0.3, -0.2, -1.0), 0.6, 0.3, 4.0, 0.2)
    depth = 2.0 + 0.1 * torch.rand(1, 5, 6, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(
        lambda one: relight(image, CAMERA.normals(one), VIEW, lighting), depth.requires_grad_()
    )


def test_black_pixels_have_a_finite_gradient():
    normals = VIEW.expand(1, 3, 4, 4).clone().requires_grad_()
    relight(torch.zeros(1, 3, 4, 4).double(), normals, VIEW, lighting_of((0.5, 0, -1))).sum().backward()
    assert torch.isfinite(normals.grad).all()


def test_a_mirrored_light_shines_on_the_mirrored_scene_alike():
    v, u = torch.meshgrid(*[torch.linspace(-1, 1, 9, dtype=torch.float64)] * 2, indexing="ij")
    depth = 3.0 + 0.3 * u * v + 0.2 * u**2
    image = torch.rand(1, 3, 9, 9, dtype=torch.float64)
    lighting = lighting_of((0.6, 0.2, -1.0), 0.7, 0.3)
    expected = relight(image, CAMERA.normals(depth)[None], VIEW, lighting).flip(-1)
    normals = CAMERA.normals(depth.flip(-1))[None]
    torch.testing.assert_close(relight(image.flip(-1), normals, VIEW, lighting.mirrored()), expected)


def test_select_keeps_the_lights_of_some_images():
    lights = sample("soft", 6)
    chosen = lights.select(torch.tensor([4, 1]), torch.device("cpu"))
    assert torch.equal(chosen.direction, lights.direction[[4, 1]])
    assert torch.equal(chosen.specular, lights.specular[[4, 1]])


@pytest.mark.parametrize("style", LIGHT_STYLES)
def test_lights_are_on_the_cameras_side_of_the_scene_in_every_direction(style):
    direction = sample(style).direction
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(4000, 1, 1))
    assert (direction[:, 2] < 0).all()
    spread = (direction / -direction[:, 2:])[:, :2].flatten(1)
    assert spread.abs().max() <= 1.0001
    torch.testing.assert_close(spread.mean(0), torch.zeros(2), rtol=0, atol=0.03)
    torch.testing.assert_close(spread.std(0), torch.full((2,), 3.0**-0.5), rtol=0.05, atol=0)


def test_weights_of_paper_lights_sum_to_one_and_their_exponents_are_integers():
    lighting = sample("paper")
    torch.testing.assert_close(lighting.diffuse + lighting.specular, torch.ones(4000, 1, 1, 1))
    assert set(lighting.shininess.unique().tolist()) == {4.0, 8.0, 16.0, 32.0, 64.0, 128.0}
    assert not lighting.ambient.any()


def test_soft_lights_leave_no_side_black():
    lighting = sample("soft")
    assert 0.05 <= lighting.ambient.min() < 0.06
    assert 0.29 < lighting.ambient.max() <= 0.3
    assert (lighting.diffuse == 1.0).all()
    assert 0.45 < float((lighting.specular > 0).float().mean()) < 0.55
    assert 0.39 < lighting.specular.max() <= 0.4
    assert 8.0 <= lighting.shininess.min() < lighting.shininess.max() <= 64.0


@pytest.mark.parametrize("style", LIGHT_STYLES)
def test_a_seed_samples_the_same_lights(style):
    assert torch.equal(sample(style, 5).direction, sample(style, 5).direction)
    assert not torch.equal(sample(style, 5).direction, sample(style, 5, seed=1).direction)


def test_another_light_style_is_rejected():
    with pytest.raises(ConfigError, match="light style is 'hard'; it must be one of: paper, soft"):
        sample("hard")
