"""The schedule of an optimisation, and what it gives up for a time budget; on a clock that tests set."""

import dataclasses
import threading
from itertools import pairwise
from types import SimpleNamespace

import pytest
from fakes_core import Clock

from redepth_ros.core.refine import schedule
from redepth_ros.core.refine.result import Plan
from redepth_ros.core.refine.schedule import Schedule, StopSignal
from redepth_ros.core.refine.settings import RefineSettings

SETTINGS = RefineSettings(steps=100, ensemble_size=2, lights_per_step=3)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(schedule, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


class Work:
    """Does the steps of a schedule as the optimisation does, and remembers their progress."""

    def __init__(self, clock, **changes):
        self.clock, self.settings = clock, dataclasses.replace(SETTINGS, **changes)
        self.stop = StopSignal(self.settings.time_budget)
        self.schedule = Schedule(self.settings, self.stop)
        self.batch = self.settings.ensemble_batch_size or self.settings.ensemble_size
        self.steps, self.progress, self.interrupted = [], [], False

    def run(self, seconds_per_image=0.0, overhead=0.0, before_step=lambda number: None):
        """Do all planned steps. Each takes `overhead` and a time for each image."""
        finished = number = 0
        while finished < self.schedule.plan.ensemble_size:
            self.schedule.begin(
                finished, min(self.batch, self.schedule.plan.ensemble_size - finished), self.batch
            )
            while not self.schedule.completed:
                self.progress.append(self.schedule.progress)
                before_step(number)
                number += 1
                images = self.schedule.members * self.schedule.plan.lights_per_step
                self.clock.sleep(overhead + seconds_per_image * images)
                self.schedule.advance()
                if self.stop.is_set():
                    self.interrupted = True
                    return self
            assert self.schedule.progress == 1.0
            self.steps.append(self.schedule.done)
            finished += self.schedule.members
        return self


def test_without_a_budget_the_progress_is_the_share_of_the_steps(clock):
    work = Work(clock).run(seconds_per_image=1000.0)
    assert work.progress == [step / 100 for step in range(100)]
    assert work.schedule.plan == Plan(100, 2, 3)
    assert not work.stop.is_set()


@pytest.mark.parametrize("changes", [{}, {"ensemble_batch_size": 1}])
def test_a_budget_that_suffices_changes_nothing(clock, changes):
    budget = 1.05 * 100 * 6  # half of the images, twice
    limited, free = (
        Work(clock, time_budget=seconds, **changes).run(seconds_per_image=1.0) for seconds in (budget, 0.0)
    )
    assert limited.progress == free.progress
    assert limited.schedule.plan == Plan(100, 2, 3)


def test_the_last_steps_run_the_rest_of_the_schedule(clock):
    """As without a budget until a quarter of the steps is left."""
    work = Work(clock, time_budget=330.0, ensemble_size=1, lights_per_step=1, steps=1000).run(1.0)
    count = work.steps[0]
    usual, last = work.progress[: int(0.74 * count)], work.progress[-int(0.2 * count) :]
    assert 300 < count < 330
    assert usual == [step / 1000 for step in range(len(usual))]
    rates = [later - earlier for earlier, later in pairwise(last)]
    assert min(rates) > 5.0 / 1000
    assert last[-1] > 0.95


@pytest.mark.parametrize("share", [0.03, 0.1, 0.2, 0.4, 0.7, 0.95])
@pytest.mark.parametrize("overhead", [0.0, 2.0])
@pytest.mark.parametrize("changes", [{}, {"ensemble_batch_size": 1}, {"ensemble_size": 1}])
def test_the_whole_schedule_ends_within_the_budget(clock, share, overhead, changes):
    everything = 100 * (6 + overhead)
    work = Work(clock, time_budget=share * everything, **changes).run(1.0, overhead)
    assert not work.interrupted
    assert 0.8 < work.stop.elapsed / (share * everything) <= 1.0 or work.schedule.plan.steps == 100
    first = work.progress[: work.steps[0]]
    assert first == sorted(first)
    if len(first) >= 12:  # no jump, even at the end
        assert max(later - earlier for earlier, later in zip(first, [*first[1:], 1.0], strict=True)) < 0.5


def test_members_are_given_up_first_then_lights(clock):
    plans = [
        Work(clock, time_budget=budget).run(1.0).schedule.plan for budget in (590.0, 200.0, 150.0, 60.0, 35.0)
    ]
    sizes = [(plan.ensemble_size, plan.lights_per_step) for plan in plans]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == (2, 3)
    assert sizes[-1] == (1, 1)
    assert (1, 3) in sizes


def test_later_members_are_given_up_before_those_at_work(clock):
    work = Work(clock, ensemble_size=10, ensemble_batch_size=1, time_budget=500.0).run(1.0)
    assert 1 < len(work.steps) < 10
    assert work.schedule.plan.lights_per_step == 3
    assert max(work.steps) - min(work.steps) <= 2


def test_steps_that_become_slower_end_within_the_budget(clock):
    def stall(number):
        clock.sleep(5.0 if number > 20 else 0.0)

    work = Work(clock, time_budget=300.0).run(1.0, before_step=stall)
    assert not work.interrupted
    assert work.stop.elapsed <= 1.05 * 300.0


def test_steps_that_become_faster_use_the_time(clock):
    def warm_up(number):
        clock.sleep(4.0 if number < 4 else 0.0)

    work = Work(clock, time_budget=200.0, ensemble_size=1).run(1.0, before_step=warm_up)
    assert work.stop.elapsed > 0.8 * 200.0


def test_a_slow_first_step_does_not_count(clock):
    work = Work(clock, time_budget=660.0).run(1.0, before_step=lambda n: clock.sleep(0.0 if n else 30.0))
    assert work.schedule.plan == Plan(100, 2, 3)


def test_time_between_two_steps_can_be_left_out(clock):
    work = Work(clock, time_budget=1200.0)

    def pause(number):
        if number in (1, 2):
            clock.sleep(100.0)
            work.schedule.restart_clock()

    assert work.run(1.0, before_step=pause).schedule.plan == Plan(100, 2, 3)


def test_time_is_left_for_the_checks(clock):
    work = Work(clock, time_budget=330.0)
    work.schedule.check_seconds = 60.0
    work.run(1.0)
    assert work.schedule.plan.steps >= 30
    assert not work.interrupted
    assert 0.8 * 330.0 < work.stop.elapsed + 60.0 <= 330.0
    assert work.stop.reserve == 60.0


def test_steps_that_are_too_few_for_the_checks_leave_them_no_time(clock):
    work = Work(clock, time_budget=100.0)
    work.schedule.check_seconds = 80.0
    work.run(1.0)
    assert work.schedule.plan.steps < 30
    assert work.stop.elapsed > 29
    assert work.stop.reserve == 0.0


def test_a_step_that_takes_longer_than_the_budget_is_the_last(clock):
    work = Work(clock, time_budget=5.0).run(1.0)
    assert work.interrupted
    assert len(work.progress) == 1


def test_a_stop_signal_is_set_by_any_thread():
    stop = StopSignal(0.0)
    assert not stop.is_set()
    thread = threading.Thread(target=stop.request)
    thread.start()
    thread.join()
    assert stop.is_set()
    assert not stop.is_late


@pytest.mark.parametrize(
    ("budget", "reserve", "expected"),
    [(0.0, 0.0, False), (3.0, 0.0, False), (1.9, 0.0, True), (3.0, 1.5, True)],
)
def test_a_budget_of_0_has_no_limit(clock, budget, reserve, expected):
    stop = StopSignal(budget)
    stop.reserve = reserve
    clock.sleep(2.0)
    assert stop.elapsed == 2.0
    assert stop.is_set() is stop.is_late is expected


def test_a_plan_says_what_was_given_up():
    settings = dataclasses.replace(SETTINGS, time_budget=3.0)
    assert Plan.of(settings).describe(settings) == ""
    assert (
        Plan(48, 1, 2).describe(settings)
        == "planned 48 of 100 steps, ensemble of 1, 2 lights for a budget of 3 s"
    )


def test_more_steps_in_the_last_part_do_not_turn_the_schedule_back(clock):
    def hurry(number):
        clock.sleep(2.0 if number < 90 else 0.0)

    work = Work(clock, time_budget=330.0, ensemble_size=1, lights_per_step=1, steps=1000)
    work.run(1.0, before_step=hurry)
    assert work.steps[0] > 110
    assert work.progress == sorted(work.progress)
