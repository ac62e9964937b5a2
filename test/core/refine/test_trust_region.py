"""The trust region: low-frequency change is bounded, detail is not."""

import math

import pytest
import torch

from redepth_ros.core.refine.trust_region import TrustRegion

LINE = torch.linspace(0.0, 1.0, 64)
INSIDE = slice(16, 48)


def wave(period: float) -> torch.Tensor:
    """Return a wave along the rows with a period in pixels: (1, 64, 64)."""
    return torch.sin(2.0 * math.pi * torch.arange(64) / period).expand(1, 64, 64)


def average(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    return TrustRegion(maps, sigma, 0.0).average(maps)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 8.0])
def test_the_average_keeps_constants_and_slow_waves_only(sigma):
    torch.testing.assert_close(average(torch.full((2, 48, 64), 3.0), sigma), torch.full((2, 48, 64), 3.0))
    assert average(wave(1.2 * sigma), sigma)[..., INSIDE].abs().max() < 0.05


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_the_average_is_gaussian_in_both_directions(along):
    maps = wave(24.0) if along == "rows" else wave(24.0).mT
    found = average(maps, 3.0)[0, INSIDE, INSIDE]
    expected = math.exp(-0.5 * (2.0 * math.pi * 3.0 / 24.0) ** 2) * maps[0, INSIDE, INSIDE]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_slow_changes_are_bounded_and_detail_is_not():
    reference = torch.full((1, 64, 64), 4.0)
    tilted = reference + (LINE - 0.5)  # up to 12 %, all of it slow
    bounded = TrustRegion(reference, 8.0, 0.02).bound(tilted)
    assert 0.01 * 4.0 < (bounded - reference).abs().max() < 0.04 * 4.0
    detailed = reference + 0.5 * wave(6.0)
    kept = TrustRegion(reference, 8.0, 0.02).bound(detailed)
    torch.testing.assert_close(kept[..., INSIDE], detailed[..., INSIDE], rtol=0, atol=0.02)


def test_a_change_in_either_direction_is_limited_to_the_share_of_the_reference():
    reference = torch.full((1, 64, 64), 4.0)
    region = TrustRegion(reference, 8.0, 0.02)
    torch.testing.assert_close(region.bound(1.5 * reference), 1.02 * reference)
    torch.testing.assert_close(region.bound(0.5 * reference), 0.98 * reference)


def test_small_changes_are_unchanged():
    reference = torch.full((1, 64, 64), 4.0)
    changed = reference + 0.05 * (LINE - 0.5)
    torch.testing.assert_close(TrustRegion(reference, 8.0, 0.02).bound(changed), changed)


def test_a_limit_of_zero_fixes_the_average():
    reference = 4.0 + 0.5 * wave(40.0)
    region = TrustRegion(reference, 8.0, 0.0)
    bounded = region.bound(reference + 1.0)
    torch.testing.assert_close(region.average(bounded), region.average(reference))


def test_the_bound_is_differentiable():
    maps = (4.0 + 0.1 * torch.rand(1, 16, 16, dtype=torch.float64)).requires_grad_()
    reference = torch.full((1, 16, 16), 4.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: TrustRegion(reference, 3.0, 0.5).bound(m), maps)
