"""The atlas of textures."""

import torch

from training.scenes.textures import LEVELS, SIZE, atlas, lookup


def test_the_pyramid_halves_and_stays_in_range():
    pyramid = atlas(3, procedural=6, photographic=2)
    assert [level.shape for level in pyramid] == [(8, 3, SIZE >> k, SIZE >> k) for k in range(LEVELS)]
    assert 0.0 <= pyramid[0].min() <= pyramid[0].max() <= 1.0
    torch.testing.assert_close(pyramid[-1].mean((-2, -1)), pyramid[0].mean((-2, -1)))


def test_textures_of_a_seed_do_not_change():
    first, again = atlas(4, procedural=3, photographic=0), atlas.__wrapped__(4, procedural=3, photographic=0)
    assert torch.equal(first[0], again[0])


def test_lookup_repeats_and_takes_the_level_of_the_pixel_size():
    pyramid = atlas(3, procedural=6, photographic=2)
    uv = torch.tensor([[0.3, 0.7], [1.3, -0.3]])
    fine = lookup(pyramid, 2, uv, torch.full((2,), 1.0 / SIZE))
    torch.testing.assert_close(fine[0], fine[1])
    column, row = int(0.3 * SIZE), int(0.7 * SIZE)
    torch.testing.assert_close(fine[0], pyramid[0][2, :, row, column])
    coarse = lookup(pyramid, 2, uv[:1], torch.full((1,), 4.0 / SIZE))
    torch.testing.assert_close(coarse[0], pyramid[2][2, :, row // 4, column // 4])
