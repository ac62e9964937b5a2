"""Checks of a refined depth."""

import math

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.refine.checks import (
    anchor_errors,
    check_anchors,
    check_change,
    check_initial_loss,
    check_loss_ratio,
    plane_of_same_slant,
)

LINE = torch.linspace(0.0, 1.0, 64)
DEPTH = 2.0 + 0.5 * torch.sin(6.0 * LINE).expand(64, 64)


def check(depth, fast=DEPTH, max_change=0.5, min_contrast=0.2):
    return check_change(depth, fast, max_change, min_contrast)


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (torch.where(LINE > 0.9, torch.nan, DEPTH), "448 pixels have no depth"),
        (torch.where(LINE > 0.9, torch.inf, DEPTH), "448 pixels have no depth"),
        (-DEPTH, "4096 pixels have no depth"),
        (3.0 * DEPTH, "the median depth changed by 110%, more than 50%: it diverged"),
        (torch.full_like(DEPTH, 2.0), "the contrast of the depth fell to 0%, below 20%: it collapsed"),
    ],
)
def test_an_unusable_depth_is_rejected_with_a_reason(depth, words):
    assert check(depth) == words


@pytest.mark.parametrize("depth", [DEPTH, 1.05 * DEPTH, DEPTH.roll(3, 1)])
def test_a_usable_depth_passes(depth):
    assert check(depth) == ""


def test_the_change_is_the_median_of_the_logarithm():
    assert check(math.exp(0.49) * DEPTH) == ""
    assert check(math.exp(-0.49) * DEPTH) == ""
    assert "it diverged" in check(math.exp(0.51) * DEPTH)
    assert "it diverged" in check(math.exp(-0.51) * DEPTH)
    few = torch.where(LINE < 0.4, 5.0 * DEPTH, DEPTH)
    assert check(few) == ""


def test_the_contrast_is_relative_to_that_of_the_fast_depth():
    flatter = DEPTH.log().mean()
    for share, passes in ((0.21, True), (0.19, False)):
        depth = (flatter + share * (DEPTH.log() - flatter)).exp()
        assert (check(depth) == "") == passes


def test_pixels_without_fast_depth_do_not_count():
    fast = torch.where(LINE > 0.9, torch.nan, DEPTH)
    assert check(fast, fast) == ""
    assert check(DEPTH, torch.full_like(DEPTH, torch.nan)) == "the fast depth has no valid pixels"


ROWS, COLUMNS = torch.meshgrid(torch.linspace(-1.0, 1.0, 12), torch.linspace(-1.0, 1.0, 16), indexing="ij")
SLANTED = 1.0 / (0.5 + 0.1 * ROWS - 0.2 * COLUMNS)


def anchors(count, depth=2.0):
    index = np.arange(count)
    return Anchors(index // 16, index % 16, np.full(count, depth), 12, 16)


def test_the_plane_of_a_plane_is_itself():
    torch.testing.assert_close(plane_of_same_slant(SLANTED), SLANTED)


def test_the_plane_is_the_least_squares_fit_of_inverse_depth():
    depth = SLANTED + 0.2 * torch.sin(9.0 * ROWS * COLUMNS + COLUMNS)
    design = torch.stack((ROWS.ravel(), COLUMNS.ravel(), torch.ones(ROWS.numel())), dim=1)
    target = depth.reciprocal().reshape(-1, 1)
    expected = (design @ torch.linalg.lstsq(design, target).solution).reshape(depth.shape)
    torch.testing.assert_close(plane_of_same_slant(depth).reciprocal(), expected, rtol=1e-4, atol=1e-5)


def test_the_plane_does_not_reach_infinity():
    steep = 1.0 / torch.where(ROWS > 0.8, 10.0, 0.01)
    found = plane_of_same_slant(steep)
    assert bool((found > 0).all())
    assert bool(found.isfinite().all())


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_plane_scales_with_the_depth(scale):
    depth = SLANTED + 0.2 * ROWS.square()
    torch.testing.assert_close(plane_of_same_slant(scale * depth), scale * plane_of_same_slant(depth))


@pytest.mark.parametrize(
    ("loss", "words"), [(0.002, "nothing to correct"), (0.003, ""), (0.02, ""), (float("nan"), "")]
)
def test_refinement_starts_only_where_the_prior_has_something_to_correct(loss, words):
    found = check_initial_loss(loss, 0.003)
    assert words in found
    assert bool(found) == bool(words)
    assert check_initial_loss(loss, 0.0) == ""


@pytest.mark.parametrize(
    ("loss", "words"), [(0.7, ""), (0.8, "a plane"), (float("nan"), "a plane"), (1.6, "a plane")]
)
def test_a_shape_must_beat_its_control(loss, words):
    found = check_loss_ratio(loss, 1.0, "a plane", 0.75)
    assert words in found
    assert bool(found) == bool(words)
    assert check_loss_ratio(loss, 1.0, "a plane", 0.0) == ""


def test_anchors_reject_only_a_worse_depth():
    measured = anchors(50)
    errors = [anchor_errors(torch.full((12, 16), depth), measured) for depth in (2.2, 2.1, 2.4)]
    assert check_anchors(errors[0], errors[1]) == ""
    assert check_anchors(errors[0], errors[0]) == ""
    assert "grew from 9.5% to 18.2%" in check_anchors(errors[0], errors[2])


def test_outliers_among_the_anchors_do_not_decide():
    fast = torch.cat((torch.full((40,), 0.10), torch.full((10,), 2.0)))
    refined = torch.cat((torch.full((40,), 0.05), torch.full((10,), 2.5)))
    assert check_anchors(fast, refined) == ""


def test_invalid_depth_counts_as_a_large_error():
    fast, refined = torch.full((12, 16), 2.1), torch.full((12, 16), 2.0)
    refined[:2] = torch.nan
    assert "grew" in check_anchors(*(anchor_errors(one, anchors(50)) for one in (fast, refined)))


def test_a_perfect_fast_depth_is_kept():
    assert "grew" in check_anchors(torch.zeros(20), torch.full((20,), 0.03))
