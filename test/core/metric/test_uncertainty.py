"""Standard deviations of depth, and what is masked."""

import pytest
import torch

from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import depth_stddev, edge_strength, without_doubtful

STEP = torch.tensor([2.0, 2.0, 2.0, 20.0, 150.0, 150.0, 150.0]).expand(4, -1)
"""Between a near surface and a far one floats a pixel."""


def test_the_parts_of_a_standard_deviation_add_up_as_variances():
    depth = torch.full((3, 3), 4.0)
    disparity = 6.0 / depth
    scale = Scale(6.0, 0.0, (0.03**2, 0.0, 0.0))
    parts = [
        depth_stddev(depth, disparity, Scale(6.0), 0.01, 0.0),  # of 1 / depth, so 0.01 * depth of it
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
    assert float(stddev[1, 2]) == pytest.approx(2.0 * 0.5 * 0.5 * torch.log(torch.tensor(4.0)))
    assert float(stddev[1, 0]) == 0.0


def test_a_pixel_that_floats_between_two_surfaces_is_masked():
    masked = without_doubtful(STEP, None, 0.0, 0.5)
    assert masked[0].isnan().tolist() == [False, False, True, True, True, False, False]
    assert torch.equal(without_doubtful(STEP, None, 0.0, 0.0), STEP)


def test_a_pixel_beside_infinity_is_masked():
    depth = torch.where(STEP > 100.0, torch.nan, STEP)
    assert edge_strength(depth)[0, 3].isnan()
    masked = without_doubtful(depth, None, 0.0, 0.5)
    assert masked[0].isnan().tolist() == [False, False, True, True, True, True, True]
    stddev = depth_stddev(depth, 1.0 / depth, Scale(), 0.0, 0.1)
    assert torch.equal(stddev.isnan(), depth.isnan())


def test_what_is_too_uncertain_is_masked():
    depth = torch.tensor([[2.0, 2.0], [2.0, torch.nan]])
    stddev = torch.tensor([[0.1, 0.3], [torch.nan, 0.1]])
    masked = without_doubtful(depth, stddev, 0.1, 0.0)
    assert masked.isnan().tolist() == [[False, True], [True, True]]
