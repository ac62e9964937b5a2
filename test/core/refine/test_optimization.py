"""The loop of a refinement: batches of members, memory, failures and stops."""

import dataclasses
import math

import pytest
import torch
from fakes_core import OUT_OF_MEMORY, FakeDepthNetwork, bump_scene

from redepth_ros.core.refine import optimization
from redepth_ros.core.refine.ensemble import Ensemble
from redepth_ros.core.refine.guidance import Interrupted
from redepth_ros.core.refine.objective import Losses
from redepth_ros.core.refine.optimization import Optimization
from redepth_ros.core.refine.schedule import StopSignal
from redepth_ros.core.refine.settings import RefineSettings

NETWORK = FakeDepthNetwork()
EMBEDDINGS = NETWORK.encode(bump_scene().pixels)
SETTINGS = RefineSettings(
    steps=5, ensemble_size=3, ensemble_batch_size=2, lights_per_step=4, averaging_fraction=0.0
)


class StubGuidance:
    """Remembers what was sampled."""

    def __init__(self):
        self.batch_size = 100
        self.sampled = []

    def sample(self, count, generator, progress):
        self.sampled.append((count, progress))
        return torch.rand((), generator=generator).item()


class StubObjective:
    """An objective whose depth is the number of steps that a batch of members has done.

    `before_step` is called with the number of members before each step; it may raise an error.
    """

    def __init__(self, before_step=lambda members: None, anchors=None):
        self.guidance, self.anchors = StubGuidance(), anchors
        self.before_step, self.samples = before_step, []
        self.losses = Losses(0.1, 0.2, 0.3, 0.6)
        self.broken_depth_at = None
        self._done = {}

    def step(self, ensemble, samples):
        self.before_step(ensemble.size)
        depth = self.depth(ensemble)
        self._done[ensemble] = self._done.get(ensemble, 0) + 1
        self.samples.append(samples)
        if self._done[ensemble] == self.broken_depth_at:
            depth = depth * torch.nan
        return depth, self.losses

    def depth(self, ensemble):
        return torch.full((ensemble.size, 2, 2), float(self._done.get(ensemble, 0)))


class Counter:
    """Calls an action before one step of all, or before every step from one on."""

    def __init__(self, action, at, always=False):
        self.action, self.at, self.always, self.count = action, at, always, 0

    def __call__(self, members):
        self.count += 1
        if self.count == self.at or (self.always and self.count > self.at):
            self.action()


def run_out_of_memory():
    raise torch.OutOfMemoryError(OUT_OF_MEMORY)


def interrupt():
    raise Interrupted


def optimization_of(objective, stop=None, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return Optimization(objective, NETWORK, EMBEDDINGS, settings, stop or StopSignal(0.0))


def counts(steps):
    return [(step.members_done, step.members_at_work, step.step) for step in steps]


def test_members_are_optimised_in_batches():
    objective = StubObjective()
    work = optimization_of(objective)
    steps = list(work.steps())
    assert counts(steps) == [*((0, 2, n) for n in range(1, 6)), *((2, 1, n) for n in range(1, 6))]
    assert work.history == steps
    assert work.finished == 3
    assert work.depths().shape == (3, 2, 2)
    assert (steps[0].loss_sds, steps[0].loss_smoothness, steps[0].loss_anchors, steps[0].loss) == (
        0.1,
        0.2,
        0.3,
        0.6,
    )
    assert steps[-1].progress == 1.0
    assert (work.notes, work.failure) == ([], "")


@pytest.mark.parametrize(("batch", "expected"), [(0, [3]), (1, [1, 1, 1]), (100, [3])])
def test_the_ensemble_batch_size_0_takes_all_members(batch, expected):
    work = optimization_of(StubObjective(), ensemble_batch_size=batch)
    assert [step.members_at_work for step in work.steps() if step.step == 1] == expected


def test_each_step_samples_all_lights_of_its_members_at_its_progress():
    objective = StubObjective()
    list(optimization_of(objective).steps())
    assert objective.guidance.sampled == [
        *((8, n / 5) for n in range(5)),
        *((4, n / 5) for n in range(5)),
    ]


def test_samples_depend_on_the_seed():
    objectives = [StubObjective() for _ in range(3)]
    for objective, seed in zip(objectives, (0, 0, 1), strict=True):
        list(optimization_of(objective, seed=seed).steps())
    assert objectives[0].samples == objectives[1].samples
    assert objectives[0].samples != objectives[2].samples
    assert len(set(objectives[0].samples)) == 10


@pytest.mark.parametrize(("fraction", "expected"), [(0.0, 5.0), (0.4, 4.0), (1.0, 3.0)])
def test_the_depths_of_the_last_steps_are_averaged(fraction, expected):
    """After each step, so that the last update counts: of 5 steps the depths 1 to 5."""
    work = optimization_of(StubObjective(), averaging_fraction=fraction)
    list(work.steps())
    assert work.depths()[0, 0, 0] == expected


def test_depths_of_unfinished_members_are_those_after_their_last_step():
    work = optimization_of(StubObjective())
    assert work.depths() is None
    for step in work.steps():
        if step.members_done:
            break
        expected = torch.full((2, 2, 2), float(step.step))
        assert torch.equal(work.depths(), expected)
    # The third member, with one step done, does not pull the mean back to the fast depth.
    assert torch.equal(work.depths(), torch.full((2, 2, 2), 5.0))
    assert work.finished == 2


@pytest.mark.parametrize(("anchors", "expected"), [(None, 0.25), ("anchors", 0.125)])
def test_anchors_have_a_learning_rate_of_their_own(anchors, expected, monkeypatch):
    rates = []

    def ensemble(network, embeddings, size, settings, learning_rate):
        rates.append(learning_rate)
        return Ensemble(network, embeddings, size, settings, learning_rate)

    monkeypatch.setattr(optimization, "Ensemble", ensemble)
    changes = {"embedding_learning_rate": 0.25, "anchored_learning_rate": 0.125, "ensemble_size": 1}
    list(optimization_of(StubObjective(anchors=anchors), **changes).steps())
    assert rates == [expected]


def test_memory_that_runs_out_halves_the_relit_batch_size():
    objective = StubObjective()

    def before_step(members):
        if objective.guidance.batch_size > 3:
            run_out_of_memory()

    objective.before_step = before_step
    work = optimization_of(objective)
    assert len(list(work.steps())) == 10
    assert work.notes == [  # from the 8 images of a step down
        "memory ran out: the relit batch size was lowered to 4",
        "memory ran out: the relit batch size was lowered to 2",
    ]
    assert len(objective.samples) == 10
    assert (work.finished, work.failure) == (3, "")


def test_memory_that_still_runs_out_halves_the_ensemble_batch_size():
    objective = StubObjective(lambda members: run_out_of_memory() if members > 1 else None)
    work = optimization_of(objective)
    steps = list(work.steps())
    assert counts(steps) == [(done, 1, n) for done in range(3) for n in range(1, 6)]
    assert work.notes[-1] == "memory ran out: the ensemble batch size was lowered to 1"
    assert objective.guidance.batch_size == 1
    assert (work.finished, work.failure) == (3, "")


def test_memory_that_never_suffices_is_a_failure():
    work = optimization_of(StubObjective(lambda members: run_out_of_memory()))
    assert list(work.steps()) == []
    assert work.failure == "memory ran out even for a single re-lit image"
    assert (work.finished, work.depths()) == (0, None)


def test_memory_may_run_out_for_the_variables_themselves(monkeypatch):
    def ensemble(network, embeddings, size, *arguments):
        return Ensemble(network, embeddings, size, *arguments) if size == 1 else run_out_of_memory()

    monkeypatch.setattr(optimization, "Ensemble", ensemble)
    work = optimization_of(StubObjective())
    assert counts(work.steps())[0] == (0, 1, 1)
    assert work.finished == 3


def test_a_late_failure_keeps_the_finished_members():
    objective = StubObjective(Counter(run_out_of_memory, at=12, always=True))
    work = optimization_of(objective, ensemble_batch_size=1)
    assert len(list(work.steps())) == 11
    assert work.finished == 2
    assert work.depths().shape == (2, 2, 2)
    assert "memory ran out" in work.failure


def test_other_errors_are_not_hidden():
    def fail(members):
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(optimization_of(StubObjective(fail)).steps())


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_steps(loss):
    objective = StubObjective()

    def before_step(members):
        if len(objective.samples) == 2:
            objective.losses = Losses(loss, 0.0, 0.0, loss)

    objective.before_step = before_step
    work = optimization_of(objective)
    assert counts(work.steps()) == [(0, 2, 1), (0, 2, 2)]
    assert work.failure == f"the loss was {loss} in step 3"
    assert work.finished == 0


def test_a_depth_that_is_not_finite_ends_the_steps():
    objective = StubObjective()
    objective.broken_depth_at = 3
    work = optimization_of(objective)
    assert len(list(work.steps())) == 2
    assert work.failure.endswith("in step 3")


def test_a_requested_stop_ends_the_steps_after_the_present_one():
    stop = StopSignal(0.0)
    work = optimization_of(StubObjective(Counter(stop.request, at=3)), stop)
    assert len(list(work.steps())) == 3
    assert torch.equal(work.depths(), torch.full((2, 2, 2), 3.0))
    assert (work.finished, work.failure) == (0, "")


def test_a_stop_between_two_batches_of_members_keeps_the_finished_ones():
    stop = StopSignal(0.0)
    work = optimization_of(StubObjective(Counter(stop.request, at=5)), stop)
    assert len(list(work.steps())) == 5
    assert work.finished == 2


def test_an_interrupted_step_does_not_count():
    work = optimization_of(StubObjective(Counter(interrupt, at=3)))
    assert counts(work.steps()) == [(0, 2, 1), (0, 2, 2)]
    assert torch.equal(work.depths(), torch.full((2, 2, 2), 2.0))
    assert work.failure == ""
