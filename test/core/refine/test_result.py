"""What a refinement returns: outcome, progress, sizes and metres."""

import re
from pathlib import Path

import pytest
import torch

from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome, Plan, Refinement, Step

ACTION = Path(__file__).parents[3] / "interfaces" / "redepth_interfaces" / "action" / "RefineDepth.action"


def refinement(refined, spread, metric=False, offset=0.1):
    depth = refined if metric else 7.0 / (refined + offset)
    return Refinement(
        refined=refined,
        fast=0.5 * refined,
        relative_stddev=spread,
        depth=depth,
        fast_depth=2.0 * depth,
        outcome=Outcome.REFINED,
        message="refined",
        steps=4,
        elapsed=0.1,
        history=(),
        plan=Plan(4, 2, 3),
        prompt="",
        scale=None,
        metric=metric,
        disparity_offset=offset,
    )


DISPARITY = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
SPREAD = torch.tensor([[0.01, 0.02], [0.03, 0.04]])


def test_outcomes_have_the_numbers_of_the_action():
    declared = dict(re.findall(r"^uint8 OUTCOME_(\w+) ?= ?(\d+)", ACTION.read_text(), re.MULTILINE))
    assert {name: int(number) for name, number in declared.items() if name in Outcome.__members__} == {
        one.name: one.value for one in Outcome
    }


def test_outcomes_have_labels():
    assert [one.label for one in Outcome] == ["refined", "stopped early", "kept fast"]


@pytest.mark.parametrize(
    ("members_done", "members_at_work", "step", "expected"),
    [(0, 1, 1, 0.025), (0, 2, 10, 0.5), (2, 2, 5, 0.75), (3, 1, 10, 1.0)],
)
def test_progress_counts_members_and_their_steps(members_done, members_at_work, step, expected):
    found = Step(members_done, members_at_work, 4, step, 10, 0.0, 0.0, 0.0, 0.0)
    assert found.progress == pytest.approx(expected)


def test_at_size_resizes_every_map():
    found = refinement(DISPARITY, SPREAD).at_size(4, 6)
    for name in ("refined", "fast", "relative_stddev", "depth", "fast_depth"):
        resized = getattr(found, name)
        assert resized.shape == (4, 6), name
        assert float(resized[0, 0]) == pytest.approx(
            float(getattr(refinement(DISPARITY, SPREAD), name)[0, 0])
        )
    assert found.outcome is Outcome.REFINED


def test_scaled_depth_is_that_of_the_scale():
    scale = Scale(6.0, 0.5)
    found = refinement(DISPARITY, SPREAD).scaled(scale, 0.05)
    torch.testing.assert_close(found.depth, 6.0 / (DISPARITY + 0.5))
    torch.testing.assert_close(found.fast, 6.0 / (0.5 * DISPARITY + 0.5))


def test_scaled_stddev_converts_the_ensembles_spread_to_the_other_shift():
    """The members differ by relative errors of 1 / (D + m); depth is 1 / (D + shift)."""
    generator = torch.Generator().manual_seed(0)
    depths = 7.0 / (DISPARITY + 0.1) * (1.0 + SPREAD * torch.randn(50_000, 2, 2, generator=generator))
    disparities = 7.0 / depths - 0.1
    expected = (6.0 / (disparities + 0.5)).std(0)
    found = refinement(DISPARITY, SPREAD).scaled(Scale(6.0, 0.5), 0.05)
    torch.testing.assert_close(found.stddev, expected, rtol=0.05, atol=0)


def test_scaled_stddev_adds_the_variance_of_the_scale():
    scale = Scale(6.0, 0.1, (0.03**2, 0.0, 0.0))
    found = refinement(DISPARITY, SPREAD).scaled(scale, 0.05)
    torch.testing.assert_close(found.stddev / found.depth, torch.hypot(SPREAD, torch.full((2, 2), 0.03)))


def test_the_assumed_stddev_replaces_that_of_a_missing_ensemble():
    found = refinement(DISPARITY, torch.zeros(2, 2)).scaled(Scale(6.0, 0.5), 0.05)
    torch.testing.assert_close(found.stddev / found.depth, torch.full((2, 2), 0.05))


def test_metric_depth_is_multiplied_by_the_scale():
    found = refinement(DISPARITY, SPREAD, metric=True).scaled(Scale(1.5), 0.05)
    torch.testing.assert_close(found.depth, 1.5 * DISPARITY)
    torch.testing.assert_close(found.fast, 0.75 * DISPARITY)
    torch.testing.assert_close(found.stddev, SPREAD * found.depth)


def test_scaled_depth_is_nan_at_infinity():
    found = refinement(torch.tensor([[-0.5, 1.0]]), torch.tensor([[0.1, 0.1]])).scaled(Scale(6.0, 0.5), 0.0)
    assert found.depth.isnan().tolist() == [[True, False]]
    assert found.stddev.isnan().tolist() == [[True, False]]
