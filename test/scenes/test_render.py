"""The renderer: its depth and normals are exact, and a seed gives one scene."""

import pytest
import torch

from redepth_ros.core.camera import (
    normals_from_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics
from training.scenes.render import Light, Scene, render
from training.scenes.solids import Material, Solid
from training.scenes.textures import atlas
from training.scenes.worlds import WORLDS, draw_scene

CAMERA = Intrinsics(80.0, 80.0, 39.5, 29.5, 80, 60)
# A camera that looks along the world's x axis: right is -y, down is -z.
FORWARD = torch.tensor([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])

SPHERE = Solid(
    "ellipsoid", torch.tensor([5.0, 0.0, 0.0]), torch.full((3,), 1.5), Material(0, 1.0, (1.0, 1.0, 1.0))
)


@pytest.fixture(scope="module")
def textures():
    return atlas()


def scene_of(solid: Solid) -> Scene:
    sun = Light(torch.tensor([-1.0, 0.0, 1.0]), (0.5, 0.5, 0.5), directional=True)
    return Scene("test", (solid,), (sun,), (0.3, 0.3, 0.3), torch.zeros(3), FORWARD, CAMERA, (0.3, 0.5, 0.9))


def test_depth_of_a_sphere(textures):
    found = render(scene_of(SPHERE), textures).depth
    rays = pixel_rays(CAMERA)
    a, b, c = (rays**2).sum(0), 5.0 * rays[2], 25.0 - 2.25
    expected = (b - torch.sqrt(b * b - a * c)) / a
    hit = b * b - a * c > 0
    torch.testing.assert_close(found[hit], expected[hit], rtol=1e-4, atol=1e-4)
    assert torch.isinf(found[~hit]).all()


@pytest.mark.parametrize("kind", ["box", "cylinder", "superquadric", "ellipsoid"])
def test_normals_agree_with_depth(kind, textures):
    """Away from edges the rendered normals are those of the rendered points."""
    turn, _ = torch.linalg.qr(torch.tensor([[1.0, 0.4, 0.1], [-0.3, 1.0, 0.5], [0.2, -0.4, 1.0]]))
    solid = Solid(
        kind,
        torch.tensor([4.0, 0.1, -0.1]),
        torch.tensor([1.0, 1.2, 1.4]),
        Material(1, 1.0, (1.0, 1.0, 1.0)),
        turn,
        exponent=4.0,
    )
    found = render(scene_of(solid), textures)
    from_depth = normals_from_points(points_from_depth(found.depth, pixel_rays(CAMERA)))
    cosine = (from_depth * found.normals).sum(0)
    inside = found.depth.isfinite() & from_depth.isfinite().all(0)
    assert inside.sum() > 300
    assert (cosine[inside] > 0.97).float().mean() > 0.85
    assert (found.normals[2][inside] <= 1e-3).all()  # towards the camera


def test_the_lit_side_is_brighter(textures):
    image = render(scene_of(SPHERE), textures).image.mean(0)
    assert image[15:25, 39].mean() > 1.2 * image[38:48, 39].mean()  # light from above


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_every_world_gives_a_usable_picture(world, textures):
    import numpy as np

    found = render(WORLDS[world](np.random.default_rng(7), len(textures[0]), 80, 60), textures)
    assert found.image.shape == (3, 60, 80)
    assert 0.0 <= found.image.min() <= found.image.max() <= 1.0
    assert found.image.std() > 0.02
    seen = found.depth.isfinite()
    assert seen.float().mean() > 0.3
    assert (found.depth[seen] > 0).all()
    assert torch.allclose(found.normals.norm(dim=0)[seen], torch.ones(()), atol=1e-3)


def test_a_seed_gives_one_scene(textures):
    first, again, other = (render(draw_scene(seed, len(textures[0]), 40, 30), textures) for seed in (3, 3, 4))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.depth, again.depth)
    assert not torch.equal(first.image, other.image)
