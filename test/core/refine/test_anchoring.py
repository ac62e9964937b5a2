"""Anchors of a refinement: the split, the correction and the check of the result."""

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.anchoring import Anchoring, split_anchors

ROWS, COLUMNS = torch.meshgrid(torch.linspace(-1.0, 1.0, 32), torch.linspace(-1.0, 1.0, 40), indexing="ij")
DEPTH = 2.0 + 0.5 * ROWS + 0.4 * torch.sin(3.0 * COLUMNS)
SCALE = Scale(3.0, 0.2)
IMAGE = torch.full((1, 3, 32, 40), 0.5)


def disparity_of(depth):
    return SCALE.scale / depth - SCALE.shift


def anchors(count=200):
    index = np.random.default_rng(0).choice(DEPTH.numel(), count, replace=False)
    return Anchors(index // 40, index % 40, DEPTH.flatten()[index].double().numpy(), 32, 40)


def anchoring(held_out_fraction=0.2):
    return Anchoring(anchors(), SCALE, IMAGE, held_out_fraction)


def test_held_out_anchors_do_not_guide():
    guiding, held_out = split_anchors(anchors(100), 0.2)
    assert held_out is not None
    assert (len(guiding), len(held_out)) == (80, 20)
    first, second = ({*zip(one.rows, one.columns, strict=True)} for one in (guiding, held_out))
    assert not first & second
    assert len(first | second) == 100
    np.testing.assert_array_equal(split_anchors(anchors(100), 0.2)[1].rows, held_out.rows)


@pytest.mark.parametrize(("count", "fraction"), [(30, 0.2), (100, 0.0), (8, 0.9)])
def test_too_few_anchors_all_guide(count, fraction):
    guiding, held_out = split_anchors(anchors(count), fraction)
    assert (len(guiding), held_out) == (count, None)


def test_the_correction_brings_the_global_depth_to_the_anchors():
    biased = DEPTH * (1.0 + 0.1 * COLUMNS)
    correction = anchoring().log_correction(disparity_of(biased))
    corrected = SCALE.depth(disparity_of(biased)) * correction.exp()
    before, after = ((one / DEPTH - 1.0).abs().mean() for one in (biased, corrected))
    assert after < 0.3 * before


def test_the_correction_is_0_where_there_is_no_depth():
    disparity = disparity_of(DEPTH)
    disparity[:4] = -1.0
    assert bool(anchoring().log_correction(disparity).isfinite().all())


def test_a_result_that_is_worse_at_held_out_anchors_is_rejected():
    noise = torch.randn(DEPTH.shape, generator=torch.Generator().manual_seed(0))
    worse, better = disparity_of(DEPTH * (1.0 + 0.2 * noise)), disparity_of(DEPTH * (1.0 + 0.02 * noise))
    assert "anchors grew" in anchoring().check(better, worse)
    assert anchoring().check(worse, better) == ""
