"""The scale of a network's output, and its line."""

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.scale import Scale, disparity_from_output

SCALE = Scale(6.0, 0.4, (4e-4, 1e-4, 9e-4))


def test_scale_and_line_are_inverse():
    (slope, offset), covariance = SCALE.line()
    disparity = torch.tensor([0.5, 2.0, 9.0])
    torch.testing.assert_close(1.0 / SCALE.depth(disparity), slope * disparity + offset)
    again = Scale.from_line(slope, offset, covariance)
    assert (again.scale, again.shift) == pytest.approx((6.0, 0.4))
    assert again.covariance == pytest.approx(SCALE.covariance)


def test_relative_stddev_is_that_of_the_scale():
    assert SCALE.relative_stddev == pytest.approx(0.02)
    assert Scale().relative_stddev == 0.0


def test_depth_is_nan_at_and_beyond_infinity():
    found = SCALE.depth(torch.tensor([2.6, -0.4, -1.0]))
    torch.testing.assert_close(found, torch.tensor([2.0, torch.nan, torch.nan]), equal_nan=True)


def test_depth_of_a_metric_network_is_multiplied_by_the_scale():
    output = torch.tensor([2.0, 0.0, -1.0, 4.0])
    depth = Scale(1.5).depth(disparity_from_output(output, metric=True))
    torch.testing.assert_close(depth, torch.tensor([3.0, torch.nan, torch.nan, 6.0]), equal_nan=True)
    assert disparity_from_output(output, metric=False) is output


def test_log_depth_variance_is_that_of_random_scales():
    covariance = np.array([[4e-4, 1e-4], [1e-4, 9e-4]])
    rng = np.random.default_rng(0)
    draws = rng.multivariate_normal([np.log(6.0), 0.4], covariance, 200_000)
    disparity = torch.tensor([0.3, 1.0, 4.0], dtype=torch.float64)
    logs = np.stack([draws[:, 0] - np.log(float(d) + draws[:, 1]) for d in disparity])
    np.testing.assert_allclose(SCALE.log_depth_variance(disparity).numpy(), logs.var(axis=1), rtol=0.03)
