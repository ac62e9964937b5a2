"""Smoothness, against the authors' values, and the loss of anchors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.losses import anchor_loss, laplacian_smoothness, normalize_range

DATA = Path(__file__).parents[1] / "data"
TWO = Anchors(np.array([0, 1]), np.array([1, 2]), np.array([2.0, 4.0]), 2, 3)


@pytest.mark.parametrize("number", [0, 1])
def test_the_authors_smoothness_is_reproduced(number):
    with np.load(DATA / f"relight_{number}.npz") as stored:
        depth = torch.from_numpy(np.asarray(stored["depth"], np.float64))
        expected = torch.from_numpy(np.asarray(stored["smoothness"], np.float64))
    torch.testing.assert_close(
        laplacian_smoothness(normalize_range(depth[None])), expected, rtol=1e-5, atol=0
    )


def test_a_plane_is_smooth_except_at_its_zero_padded_border():
    v, u = torch.meshgrid(*[torch.arange(20, dtype=torch.float64)] * 2, indexing="ij")
    ramp = (u + 2 * v)[None]
    rough = ramp + torch.randn(1, 20, 20, dtype=torch.float64)
    assert laplacian_smoothness(rough) > laplacian_smoothness(ramp)
    bump = torch.zeros(1, 5, 5, dtype=torch.float64)
    bump[0, 2, 2] = 1.0
    assert float(laplacian_smoothness(bump)) == pytest.approx(8.0 / 25.0)


def test_normalize_range_is_invariant_to_scale_and_shift():
    values = torch.rand(2, 4, 5, dtype=torch.float64)
    found = normalize_range(values)
    torch.testing.assert_close(normalize_range(3.0 * values + 7.0), found)
    assert found.amin((1, 2)).tolist() == [0.0, 0.0]
    assert found.amax((1, 2)).tolist() == [1.0, 1.0]
    assert normalize_range(torch.ones(1, 3, 3)).abs().max() == 0.0


def test_the_range_has_no_gradient():
    values = torch.tensor([[[1.0, 2.0, 5.0]]], requires_grad=True)
    normalize_range(values).sum().backward()
    torch.testing.assert_close(values.grad, torch.full((1, 1, 3), 0.25))


def test_the_anchor_loss_is_the_robust_error_of_log_depth():
    depth = torch.full((1, 2, 3), 2.0, dtype=torch.float64)
    expected = 0.5 * (np.hypot(np.log(2.0), 0.02) - 0.02)
    assert anchor_loss(depth, TWO).item() == pytest.approx(expected)
    assert anchor_loss(2.0 * depth, TWO).item() == pytest.approx(expected)  # the other one is off
    start = torch.rand(1, 2, 3, dtype=torch.float64) + 1.0
    assert torch.autograd.gradcheck(lambda d: anchor_loss(d, TWO), start.requires_grad_())


def test_the_anchor_loss_is_the_mean_over_members():
    depth = torch.full((2, 2, 3), 2.0, dtype=torch.float64)
    depth[1, 1, 2] = 4.0
    expected = 0.25 * (np.hypot(np.log(2.0), 0.02) - 0.02)
    assert anchor_loss(depth, TWO).item() == pytest.approx(expected)


def test_invalid_depth_has_no_gradient():
    disparity = torch.tensor([[[1.0, -0.4, 1.0], [1.0, 1.0, 2.0]]], requires_grad=True)
    anchor_loss(Scale(6.0, 0.4).depth(disparity), TWO).backward()
    assert torch.isfinite(disparity.grad).all()
    assert disparity.grad.nonzero().tolist() == [[0, 1, 2]]


def test_a_wrong_anchor_pulls_no_harder_than_a_right_one():
    anchors = Anchors(np.array([0, 0]), np.array([0, 1]), np.array([1.1, 50.0]), 1, 2)
    depth = torch.ones(1, 1, 2, requires_grad=True)
    anchor_loss(depth, anchors).backward()
    near, far = depth.grad.abs().flatten().tolist()
    assert far == pytest.approx(near, rel=0.05)


@pytest.mark.parametrize("invalid", [float("nan"), -1.0, 0.0])
def test_invalid_depth_has_no_loss(invalid):
    anchors = Anchors(np.array([0, 0]), np.array([0, 1]), np.array([1.0, 1.0]), 1, 2)
    depth = torch.tensor([[[1.0, invalid]]])
    assert anchor_loss(depth, anchors).item() == 0.0
