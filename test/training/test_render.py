"""The renderer: depth and normals are exact."""

import pytest
import torch

from redepth_ros.core.camera import PinholeCamera
from training.scenes.render import Light, Scene, render
from training.scenes.solids import Material, Solid
from training.scenes.textures import atlas

CAMERA = PinholeCamera(80.0, 80.0, 39.5, 29.5, 80, 60)
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
    rays = CAMERA.rays()
    a, b, c = (rays**2).sum(0), 5.0 * rays[2], 25.0 - 2.25
    expected = (b - torch.sqrt(b * b - a * c)) / a
    hit = b * b - a * c > 0
    torch.testing.assert_close(found[hit], expected[hit], rtol=1e-4, atol=1e-4)
    assert torch.isinf(found[~hit]).all()


@pytest.mark.parametrize("kind", ["box", "cylinder", "superquadric", "ellipsoid"])
def test_normals_agree_with_depth(kind, textures):
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
    from_depth = CAMERA.normals(found.depth)
    cosine = (from_depth * found.normals).sum(0)
    inside = found.depth.isfinite() & from_depth.isfinite().all(0)
    assert inside.sum() > 300
    assert (cosine[inside] > 0.97).float().mean() > 0.85  # the others lie at edges
    assert (found.normals[2][inside] <= 1e-3).all()  # towards the camera


def test_the_lit_side_is_brighter(textures):
    image = render(scene_of(SPHERE), textures).image.mean(0)
    assert image[15:25, 39].mean() > 1.2 * image[38:48, 39].mean()  # light from above
