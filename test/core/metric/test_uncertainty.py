"""Standard deviation of depth, and the limits of valid depth."""

import math

import pytest
import torch

from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits, depth_stddev, relative_gradient

STEP = torch.tensor([2.0, 2.0, 2.0, 20.0, 150.0, 150.0, 150.0]).expand(4, -1)
"""A flying pixel between a near surface and a far one."""
NO_LIMIT = DepthLimits(max_depth=1000.0)


def test_the_parts_of_the_variance_add_up():
    depth = torch.full((3, 3), 4.0)
    disparity = 6.0 / depth
    scale = Scale(6.0, 0.0, (0.03**2, 0.0, 0.0))
    parts = [
        depth_stddev(depth, disparity, Scale(6.0), 0.01, 0.0),  # of 1 / depth, so 0.01 * depth relative
        depth_stddev(depth, disparity, scale, 0.0, 0.0),
        depth_stddev(depth, disparity, Scale(6.0), 0.0, 0.05),
    ]
    for part, relative in zip(parts, (0.04, 0.03, 0.05), strict=True):
        torch.testing.assert_close(part, relative * depth)
    together = depth_stddev(depth, disparity, scale, 0.01, 0.05)
    torch.testing.assert_close(together.square(), sum(part.square() for part in parts))


def test_an_edge_is_uncertain_by_half_a_pixel():
    depth = torch.tensor([[1.0, 1.0, 2.0, 4.0, 4.0]]).expand(3, -1)
    stddev = depth_stddev(depth, 1.0 / depth, Scale(), 0.0, 0.0)
    assert float(stddev[1, 2]) == pytest.approx(2.0 * 0.5 * 0.5 * math.log(4.0))
    assert float(stddev[1, 0]) == 0.0


def test_relative_gradient_is_the_larger_one_of_both_directions():
    v, u = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    torch.testing.assert_close(relative_gradient((0.1 * u - 0.3 * v).exp()), torch.full((5, 5), 0.3))
    torch.testing.assert_close(relative_gradient((0.4 * u + 0.3 * v).exp()), torch.full((5, 5), 0.4))


def test_stddev_is_nan_where_the_depth_is_nan_and_only_there():
    depth = torch.where(STEP > 100.0, torch.nan, STEP)
    assert relative_gradient(depth)[0, 3].isnan()
    stddev = depth_stddev(depth, 1.0 / depth, Scale(), 0.0, 0.1)
    assert torch.equal(stddev.isnan(), depth.isnan())


def test_flying_pixels_are_masked():
    depth, _ = DepthLimits(max_depth=1000.0, max_relative_gradient=0.5).apply(STEP)
    assert depth[0].isnan().tolist() == [False, False, True, True, True, False, False]
    assert torch.equal(NO_LIMIT.apply(STEP)[0], STEP)


def test_flying_pixels_beside_infinity_are_masked():
    depth = torch.where(STEP > 100.0, torch.nan, STEP)
    depth, _ = DepthLimits(max_relative_gradient=0.5).apply(depth)
    assert depth[0].isnan().tolist() == [False, False, True, True, True, True, True]


def test_flying_pixels_are_found_before_the_range_is_applied():
    depth, _ = DepthLimits(max_depth=100.0, max_relative_gradient=0.5).apply(STEP)
    assert depth[0].isnan().tolist() == [False, False, True, True, True, True, True]


def test_uncertain_depth_is_masked_with_its_stddev():
    depth = torch.tensor([[2.0, 2.0, 2.0], [2.0, torch.nan, 4.0]])
    stddev = torch.tensor([[0.1, 0.2, 0.21], [torch.nan, 0.1, 0.39]])
    limits = DepthLimits(max_relative_stddev=0.1)
    masked, masked_stddev = limits.apply(depth, stddev)
    assert masked.isnan().tolist() == [[False, False, True], [True, True, False]]
    assert torch.equal(masked_stddev.isnan(), masked.isnan())
    unmasked, _ = DepthLimits().apply(depth, stddev)
    assert torch.equal(unmasked.isnan(), depth.isnan())


def test_both_limits_of_the_range_are_valid_themselves():
    depth = torch.tensor([[0.49, 0.5, 1.0, 10.0, 10.01, math.inf, math.nan, -1.0]])
    limited, stddev = DepthLimits(0.5, 10.0).apply(depth, torch.ones_like(depth))
    assert limited.isnan().tolist() == [[True, False, False, False, True, True, True, True]]
    assert torch.equal(stddev.isnan(), limited.isnan())


def test_depth_zero_is_invalid_even_without_a_lower_limit():
    limited, stddev = DepthLimits().apply(torch.tensor([[0.0, 1e-6]]))
    assert limited.isnan().tolist() == [[True, False]]
    assert stddev is None
