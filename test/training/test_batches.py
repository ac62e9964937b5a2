"""Batches of crops of several sources."""

import numpy as np
import pytest
import torch

from training.batches import SHARES, sample_batch
from training.real_images import Sample


def source(color, count=3):
    """Images of one colour whose disparity is the column."""
    image = np.full((180, 240, 3), color, np.uint8)
    disparity = np.tile(np.arange(1.0, 241.0, dtype=np.float32), (180, 1))
    return [Sample("place", image, disparity, affine=color % 2 == 1) for _ in range(count)]


@pytest.fixture
def sources():
    return {name: source(50 + 3 * number) for number, name in enumerate(SHARES)}


def test_the_sources_have_their_shares(sources):
    affine = sample_batch(sources, 20, torch.Generator().manual_seed(0))[2]
    shares = dict(zip(SHARES, (5, 3, 5, 7), strict=True))
    expected = sum(count for name, count in shares.items() if sources[name][0].affine)
    assert len(affine) == 20
    assert affine.sum() == expected


def test_disparity_has_the_mean_1_and_belongs_to_its_crop(sources):
    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        images, disparity, _ = sample_batch(sources, 20, generator)
        assert images.shape[-2:] == disparity.shape[-2:]
        torch.testing.assert_close(disparity.mean(dim=(1, 2)), torch.ones(20))
        steps = disparity.diff(dim=-1)
        assert (steps >= 0.0).all(dim=-1).all(dim=-1).logical_or((steps <= 0.0).all(dim=-1).all(dim=-1)).all()


def test_holes_stay_holes(sources):
    for samples in sources.values():
        for sample in samples:
            sample.disparity[:, :60] = np.nan
    disparity = sample_batch(sources, 20, torch.Generator().manual_seed(0))[1]
    assert 0.02 < disparity.isnan().float().mean() < 0.6
    torch.testing.assert_close(disparity.nanmean(dim=(1, 2)), torch.ones(20))


def test_a_seed_gives_one_batch(sources):
    first, again, other = (
        sample_batch(sources, 20, torch.Generator().manual_seed(seed))[0] for seed in (2, 2, 3)
    )
    torch.testing.assert_close(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
