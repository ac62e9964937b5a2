"""Output to depth and back."""

import math

import pytest
import torch

from redepth_ros.core.refine.parametrization import Readout

OUTPUT = torch.rand(1, 6, 8, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.mark.parametrize("metric", [False, True])
def test_output_inverts_depth(metric):
    readout = Readout.of(OUTPUT, 7.0, 0.1, metric)
    torch.testing.assert_close(readout.output(readout.depth(OUTPUT)), OUTPUT)


def test_the_papers_depth():
    found = Readout(7.0, 0.1).depth(torch.tensor([3.4]), torch.tensor(0.5))
    torch.testing.assert_close(found, torch.tensor([(7.0 + math.tanh(0.5)) / 3.5]))


def test_no_disparity_is_far_and_finite():
    assert torch.isfinite(Readout(7.0, 0.0).depth(torch.zeros(3))).all()


def test_metres_are_brought_to_picture_heights():
    """Whatever the unit: ten times the metres are shaded alike."""
    near = Readout.of(OUTPUT, 7.0, 0.1, True).depth(OUTPUT)
    far = Readout.of(10.0 * OUTPUT, 7.0, 0.1, True).depth(10.0 * OUTPUT)
    torch.testing.assert_close(near, far)
