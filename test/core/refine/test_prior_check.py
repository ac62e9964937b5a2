"""The prior's judgement of a refinement."""

import dataclasses
import itertools
from types import SimpleNamespace

import pytest
import torch

from redepth_ros.core.errors import OutOfMemory
from redepth_ros.core.refine import prior_check
from redepth_ros.core.refine.prior_check import PriorCheck
from redepth_ros.core.refine.settings import RefineSettings

SETTINGS = RefineSettings(
    min_initial_loss=0.1, max_early_loss_ratio=1.5, max_plane_loss_ratio=0.75, max_mirror_loss_ratio=0.5
)
SHAPE = 2.0 + torch.sin(torch.linspace(0.0, 7.0, 20)).expand(16, 20) ** 2


class StubObjective:
    """Returns losses in the order in which they are asked for: shape, plane, mirror image."""

    def __init__(self, *losses, anchors=None):
        self.losses, self.anchors, self.asked, self.counts = list(losses), anchors, [], []
        self.guidance = SimpleNamespace(sample=lambda count, generator, progress: (count, progress))

    def prior_loss(self, depth, samples):
        self.asked.append(depth)
        self.counts.append(samples[0])
        return self.losses[len(self.asked) - 1]


def check_of(objective, light_conditioned=True, in_memory=lambda images, work: work(), **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return PriorCheck(objective, settings, light_conditioned, in_memory)


def test_the_start_is_checked_by_the_loss_of_the_fast_depth():
    assert "nothing to correct" in check_of(StubObjective(0.05)).check_start(SHAPE)
    assert check_of(StubObjective(0.2)).check_start(SHAPE) == ""


def test_the_early_shape_is_compared_with_a_plane():
    objective = StubObjective(0.4, 0.2)
    assert "a plane of the same slant" in check_of(objective).check_early(SHAPE, 160)
    inverse = objective.asked[1][0].reciprocal()
    torch.testing.assert_close(inverse.diff(n=2, dim=1), torch.zeros(16, 18), atol=1e-6, rtol=0.0)
    assert check_of(StubObjective(0.29, 0.2)).check_early(SHAPE, 160) == ""


def test_the_result_is_compared_with_a_plane_and_its_mirror_image():
    objective = StubObjective(0.1, 0.2, 0.3)
    assert check_of(objective).check_result(SHAPE, 160) == ""
    assert torch.equal(objective.asked[2][0], SHAPE.flip(-1))
    assert "a plane" in check_of(StubObjective(0.16, 0.2, 0.4)).check_result(SHAPE, 160)
    assert "its mirror image" in check_of(StubObjective(0.16, 0.4, 0.2)).check_result(SHAPE, 160)


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [
        ({"light_conditioned": False}, {}),
        ({}, {"sds_weight": 0.0}),
        ({}, {"steps": 29}),
        (
            {},
            {
                "min_initial_loss": 0.0,
                "max_early_loss_ratio": 0.0,
                "max_plane_loss_ratio": 0.0,
                "max_mirror_loss_ratio": 0.0,
            },
        ),
    ],
)
def test_nothing_is_checked_where_the_loss_tells_nothing(arguments, changes):
    check = check_of(StubObjective(), **arguments, **changes)
    assert (check.check_start(SHAPE), check.check_early(SHAPE, 160), check.check_result(SHAPE, 160)) == (
        "",
        "",
        "",
    )


def test_nothing_is_checked_with_anchors_or_after_few_steps():
    assert check_of(StubObjective(anchors=object())).check_start(SHAPE) == ""
    assert check_of(StubObjective()).check_result(SHAPE, 29) == ""


def test_too_few_steps_for_a_check_are_a_reason_only_if_time_allowed_no_more():
    few = check_of(StubObjective(), time_budget=5.0).check_result(SHAPE, 29, True)
    assert few == "the time budget of 5 s has room for 29 steps, and the prior checks no fewer than 30"
    unlimited = {"max_plane_loss_ratio": 0.0, "max_mirror_loss_ratio": 0.0}
    assert check_of(StubObjective(), **unlimited).check_result(SHAPE, 29, True) == ""
    assert check_of(StubObjective(), steps=29).check_result(SHAPE, 29, True) == ""


def test_few_planned_steps_are_not_checked():
    check = check_of(StubObjective())
    assert (check.check_early(SHAPE, 29), check.check_result(SHAPE, 29)) == ("", "")


@pytest.mark.parametrize(
    ("limits", "early", "late"),
    [
        ({}, 5.0, 3.0),
        ({"max_early_loss_ratio": 0.0}, 3.0, 3.0),
        ({"max_mirror_loss_ratio": 0.0}, 4.0, 2.0),
        ({"max_plane_loss_ratio": 0.0, "max_mirror_loss_ratio": 0.0}, 2.0, 0.0),
    ],
)
def test_the_time_of_the_checks_to_come_is_that_of_their_shapes(limits, early, late, monkeypatch):
    """The loss of each shape takes a second."""
    clock = itertools.count()
    monkeypatch.setattr(prior_check, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    check = check_of(StubObjective(0.2), **limits)
    assert check.seconds_left(0) == 0.0  # unknown
    check.check_start(SHAPE)
    assert (check.seconds_left(0), check.seconds_left(20)) == (early, late)


@pytest.mark.parametrize(
    ("seconds", "samples"), [(float("inf"), 32), (35.0, 32), (17.5, 16), (9.9, 9), (1.0, 8), (-1.0, 8)]
)
def test_checks_are_as_much_smaller_as_the_time_is_too_short(seconds, samples, monkeypatch):
    """32 images take a second; all steps have 960 images, and the checks compare 5 shapes: 35 s."""
    clock = itertools.count()
    monkeypatch.setattr(prior_check, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    objective = StubObjective(0.2, 0.1, 0.2, 0.3)
    check = check_of(objective, steps=160, ensemble_size=2, lights_per_step=3)
    check.check_start(SHAPE)
    check.fit(seconds)
    assert check.seconds_left(0) == pytest.approx(5.0 * samples / 32)
    check.check_result(SHAPE, 160)
    assert objective.counts == [32, samples, samples, samples]


def test_checks_are_not_fitted_to_an_unknown_time():
    objective = StubObjective(0.1, 0.2, 0.3)
    check = check_of(objective, min_initial_loss=0.0)
    check.check_start(SHAPE)
    check.fit(-1.0)
    check.check_result(SHAPE, 160)
    assert objective.counts == [32, 32, 32]


def test_a_check_that_runs_out_of_memory_is_reported():
    def fail(images, work):
        raise OutOfMemory("out of memory")

    check = check_of(StubObjective(), in_memory=fail)
    assert check.check_result(SHAPE, 160) == ""
    assert "memory ran out" in check.incomplete
