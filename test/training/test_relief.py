"""Relief scenes."""

import pytest
import torch

from redepth_ros.core.camera import OrthographicCamera
from training.scenes.relief import MIDDLE, REACH, sample_relief
from training.scenes.textures import atlas


@pytest.mark.parametrize("narrow", [False, True])
def test_a_relief_is_finite_and_near_its_mean_depth(narrow):
    relief = sample_relief(5, atlas(), side=40, narrow=narrow)
    assert relief.image.shape == (3, 40, 40)
    assert 0.0 <= relief.image.min() <= relief.image.max() <= 1.0
    assert (relief.depth - MIDDLE).abs().max() <= REACH + 1e-5
    torch.testing.assert_close(relief.normals, OrthographicCamera().normals(relief.depth))


def test_a_seed_gives_one_relief():
    first, again, other = (sample_relief(seed, atlas(), side=40) for seed in (3, 3, 4))
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.depth, other.depth)


def test_the_narrow_domain_is_plain():
    image = sample_relief(5, atlas(), side=40, narrow=True).image
    torch.testing.assert_close(image[0], image[1])
    torch.testing.assert_close(image[0], image[2])
