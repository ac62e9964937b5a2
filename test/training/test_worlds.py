"""Random worlds."""

import numpy as np
import pytest
import torch

from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import WORLDS, sample_scene


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_every_world_gives_a_usable_image(world):
    textures = atlas()
    found = render(WORLDS[world](np.random.default_rng(7), len(textures[0]), 80, 60), textures)
    assert found.image.shape == (3, 60, 80)
    assert 0.0 <= found.image.min() <= found.image.max() <= 1.0
    assert found.image.std() > 0.02
    visible = found.depth.isfinite()
    assert visible.float().mean() > 0.3
    assert (found.depth[visible] > 0).all()
    assert torch.allclose(found.normals.norm(dim=0)[visible], torch.ones(()), atol=1e-3)


def test_a_seed_gives_one_scene():
    textures = atlas()
    first, again, other = (
        render(sample_scene(seed, len(textures[0]), 40, 30), textures) for seed in (3, 3, 4)
    )
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.depth, again.depth)
    assert not torch.equal(first.image, other.image)
