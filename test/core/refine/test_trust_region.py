"""The trust region, and the checks of a result."""

import math

import pytest
import torch

from redepth_ros.core.refine.trust_region import TrustRegion, objection

LINE = torch.linspace(0.0, 1.0, 64)


def wave(period: float) -> torch.Tensor:
    """A wave of so many pixels along the rows: (1, 64, 64)."""
    return torch.sin(2.0 * math.pi * torch.arange(64) / period).expand(1, 64, 64)


def average(maps: torch.Tensor, sigma: float) -> torch.Tensor:
    return TrustRegion(maps, sigma, 0.0).average(maps)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 8.0])
def test_the_average_keeps_constants_and_slow_waves_only(sigma):
    torch.testing.assert_close(average(torch.full((2, 48, 64), 3.0), sigma), torch.full((2, 48, 64), 3.0))
    inside = slice(16, 48)
    assert average(wave(1.2 * sigma), sigma)[..., inside].abs().max() < 0.05


def test_the_average_is_a_gaussian_one():
    found = average(wave(24.0), 3.0)[0, 32, 16:48]
    expected = math.exp(-0.5 * (2.0 * math.pi * 3.0 / 24.0) ** 2) * wave(24.0)[0, 32, 16:48]
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02)


def test_slow_changes_are_bounded_and_fast_ones_are_not():
    reference = torch.full((1, 64, 64), 4.0)
    tilted = reference + (LINE - 0.5)  # up to 12 %, all of it slow
    bounded = TrustRegion(reference, 8.0, 0.02).bound(tilted)
    assert (bounded - reference).abs().max() < 0.04 * 4.0
    detailed = reference + 0.5 * wave(6.0)
    kept = TrustRegion(reference, 8.0, 0.02).bound(detailed)
    inside = slice(16, 48)
    torch.testing.assert_close(kept[..., inside], detailed[..., inside], rtol=0, atol=0.02)


def test_small_changes_are_left_alone():
    reference = torch.full((1, 64, 64), 4.0)
    changed = reference + 0.05 * (LINE - 0.5)
    torch.testing.assert_close(TrustRegion(reference, 8.0, 0.02).bound(changed), changed)


def test_the_bound_lets_gradients_through():
    maps = (4.0 + 0.1 * torch.rand(1, 16, 16, dtype=torch.float64)).requires_grad_()
    reference = torch.full((1, 16, 16), 4.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: TrustRegion(reference, 3.0, 0.5).bound(m), maps)


DEPTH = 2.0 + 0.5 * torch.sin(6.0 * LINE).expand(64, 64)


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (DEPTH, ""),
        (1.05 * DEPTH, ""),
        (torch.where(LINE > 0.9, torch.nan, DEPTH), "have no depth"),
        (-DEPTH, "have no depth"),
        (3.0 * DEPTH, "diverged"),
        (torch.full_like(DEPTH, 2.0), "collapsed"),
    ],
)
def test_objections(depth, words):
    found = objection(depth, DEPTH, farthest=0.5, flattest=0.2)
    assert words in found
    assert bool(found) == bool(words)


def test_pixels_without_a_fast_depth_do_not_count():
    fast = torch.where(LINE > 0.9, torch.nan, DEPTH)
    assert objection(fast, fast, 0.5, 0.2) == ""
    assert "no valid pixels" in objection(DEPTH, torch.full_like(DEPTH, torch.nan), 0.5, 0.2)
