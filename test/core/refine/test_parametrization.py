"""From the network's output to the depth, and back."""

import math

import pytest
import torch

from redepth_ros.core.refine.parametrization import TYPICAL_DEPTH, DepthParametrization

OUTPUT = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.mark.parametrize("metric", [False, True])
def test_output_inverts_depth(metric):
    parametrization = DepthParametrization.for_output(OUTPUT, 7.0, 0.1, metric)
    torch.testing.assert_close(parametrization.output(parametrization.depth(OUTPUT)), OUTPUT)


def test_depth_is_that_of_the_paper():
    found = DepthParametrization(7.0, 0.1).depth(torch.tensor([3.4]), torch.tensor(0.5))
    torch.testing.assert_close(found, torch.tensor([(7.0 + math.tanh(0.5)) / 3.5]))


def test_the_scale_offset_multiplies_the_depth_of_a_metric_network():
    parametrization = DepthParametrization.for_output(OUTPUT, 7.0, 0.1, True)
    found = parametrization.depth(OUTPUT, torch.tensor(0.5)) / parametrization.depth(OUTPUT)
    torch.testing.assert_close(found, torch.full_like(OUTPUT, (7.0 + math.tanh(0.5)) / 7.0))


def test_each_member_has_its_own_scale_offset():
    outputs = OUTPUT.expand(2, -1, -1)
    found = DepthParametrization(7.0, 0.1).depth(outputs, torch.tensor([0.0, 0.5])[:, None, None])
    torch.testing.assert_close(found[1] / found[0], torch.full((6, 8), (7.0 + math.tanh(0.5)) / 7.0))


def test_disparity_zero_is_far_and_finite():
    found = DepthParametrization(7.0, 0.0).depth(torch.zeros(3))
    assert torch.isfinite(found).all()
    assert (found > 1e6).all()


def test_metres_become_half_image_heights_of_a_typical_camera():
    near = DepthParametrization.for_output(OUTPUT, 7.0, 0.1, True).depth(OUTPUT)
    far = DepthParametrization.for_output(10.0 * OUTPUT, 7.0, 0.1, True).depth(10.0 * OUTPUT)
    torch.testing.assert_close(near, far)
    assert float(near.median()) == pytest.approx(TYPICAL_DEPTH)


@pytest.mark.parametrize("factor", [1e-3, 0.2, 1.0, 50.0])
def test_the_unit_of_the_disparity_does_not_matter(factor):
    output = torch.linspace(1.0, 6.0, 48).reshape(1, 6, 8)
    expected = DepthParametrization.for_output(output, 7.0, 0.1, False, 4.57).depth(output)
    scaled = DepthParametrization.for_output(factor * output, 7.0, 0.1, False, 4.57)
    torch.testing.assert_close(scaled.depth(factor * output), expected)
    torch.testing.assert_close(scaled.output(expected), factor * output)


def test_the_mean_of_the_scaled_disparity_is_the_given_one():
    output = torch.linspace(1.0, 6.0, 48).reshape(1, 6, 8)
    scaled = DepthParametrization.for_output(output, 7.0, 0.1, False, 4.57)
    assert float((7.0 / scaled.depth(output) - 0.1).mean()) == pytest.approx(4.57, rel=1e-4)
    assert DepthParametrization.for_output(output, 7.0, 0.1, False).gain == 1.0


def test_a_network_without_disparity_keeps_its_range():
    nothing = torch.zeros(1, 6, 8)
    scaled = DepthParametrization.for_output(nothing, 7.0, 0.1, False, 4.57)
    assert bool(scaled.depth(nothing).isfinite().all())
