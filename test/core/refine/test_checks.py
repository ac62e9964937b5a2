"""Checks of a refined depth."""

import math

import pytest
import torch

from redepth_ros.core.refine.checks import check_change, check_loss_drop

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


def test_the_loss_must_drop_by_the_minimum():
    assert check_loss_drop(0.5, 0.25, 0.25) == ""
    message = check_loss_drop(0.5, 0.26, 0.25)
    assert message == "the SDS loss dropped from 0.5 to 0.26, by less than 0.25"
    assert check_loss_drop(0.25, 0.5, 0.25) != ""
