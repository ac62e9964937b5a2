"""Scheduling of goals, without ROS: goals are plain strings."""

import pytest

from redepth_ros.ros.streams.goal_scheduler import GoalScheduler


class Recorder:
    """A scheduler with an active server, and what it started and dismissed."""

    def __init__(self, active=True):
        self.started, self.dismissed = [], []
        self.scheduler = GoalScheduler(self.started.append, self.dismissed.append)
        if active:
            self.scheduler.activate()

    def add(self, *goals, policy="queue"):
        for goal in goals:
            self.scheduler.add(goal, policy)

    def names(self):
        return [job.goal for job in self.started]


@pytest.fixture
def recorder():
    return Recorder()


def test_starts_the_first_goal_at_once(recorder):
    recorder.add("a")
    assert recorder.names() == ["a"]
    assert recorder.scheduler.busy
    assert not recorder.scheduler.idle


def test_queue_starts_goals_in_their_order(recorder):
    recorder.add("a", "b", "c")
    assert recorder.names() == ["a"]
    assert recorder.scheduler.waiting == 2
    recorder.scheduler.finish(recorder.started[0])
    recorder.scheduler.finish(recorder.started[1])
    assert recorder.names() == ["a", "b", "c"]
    recorder.scheduler.finish(recorder.started[2])
    assert recorder.scheduler.idle
    assert not recorder.dismissed


def test_latest_stops_the_goal_at_work_and_dismisses_the_waiting_ones(recorder):
    recorder.add("a", "b", "c", policy="latest")
    first = recorder.started[0]
    assert first.stop_reason == "a newer goal took its place"
    assert [job.goal for job in recorder.dismissed] == ["b"]
    assert recorder.dismissed[0].stop_reason == "a newer goal took its place"
    recorder.scheduler.finish(first)
    assert recorder.names() == ["a", "c"]
    assert recorder.started[1].stop_reason == ""


def test_rejection_follows_the_policy(recorder):
    rejection = recorder.scheduler.rejection
    for policy in ("latest", "queue", "reject"):
        assert rejection(policy, 1) == ""
    recorder.add("a")
    assert rejection("latest", 1) == ""
    assert rejection("queue", 1) == ""
    assert rejection("reject", 1) == "another goal is running, and policy is reject"
    recorder.add("b")
    assert rejection("queue", 1) == "1 goals wait already, and queue_size is 1"
    assert rejection("queue", 2) == ""
    assert rejection("latest", 1) == ""


def test_inactive_rejects_under_every_policy():
    recorder = Recorder(active=False)
    for policy in ("latest", "queue", "reject"):
        assert "not active" in recorder.scheduler.rejection(policy, 5)


def test_cancel_stops_the_goal_at_work(recorder):
    recorder.add("a", "b")
    assert recorder.scheduler.cancel("a")
    assert recorder.started[0].stop_reason == "cancelled"
    assert not recorder.dismissed
    recorder.scheduler.finish(recorder.started[0])
    assert recorder.names() == ["a", "b"]
    assert recorder.started[1].stop_reason == ""


def test_cancel_dismisses_a_waiting_goal(recorder):
    recorder.add("a", "b", "c")
    assert recorder.scheduler.cancel("b")
    assert [(job.goal, job.stop_reason) for job in recorder.dismissed] == [("b", "cancelled")]
    assert recorder.scheduler.waiting == 1
    assert recorder.started[0].stop_reason == ""


def test_cancel_refuses_a_goal_that_has_ended(recorder):
    recorder.add("a")
    recorder.scheduler.finish(recorder.started[0])
    assert not recorder.scheduler.cancel("a")
    assert not recorder.scheduler.cancel("never seen")


def test_deactivate_stops_and_dismisses_everything(recorder):
    recorder.add("a", "b", "c")
    recorder.scheduler.deactivate()
    assert recorder.started[0].stop_reason == "the server was deactivated"
    assert [(job.goal, job.stop_reason) for job in recorder.dismissed] == [
        ("b", "the server was deactivated"),
        ("c", "the server was deactivated"),
    ]
    assert not recorder.scheduler.idle  # a still has to end
    recorder.scheduler.finish(recorder.started[0])
    assert recorder.scheduler.idle
    assert recorder.names() == ["a"]


def test_activate_accepts_goals_again(recorder):
    recorder.add("a")
    recorder.scheduler.deactivate()
    recorder.scheduler.activate()
    assert recorder.scheduler.rejection("queue", 5) == ""
    recorder.add("b")
    assert recorder.names() == ["a"]  # a has not ended yet
    recorder.scheduler.finish(recorder.started[0])
    assert recorder.names() == ["a", "b"]


def test_a_goal_accepted_during_deactivation_is_dismissed(recorder):
    recorder.scheduler.deactivate()
    recorder.add("a")
    assert not recorder.started
    assert recorder.dismissed[0].stop_reason == "the server was deactivated"
    assert recorder.scheduler.idle


def test_finish_of_a_dismissed_job_keeps_the_goal_at_work(recorder):
    recorder.add("a", "b", policy="latest")
    recorder.add("c", policy="latest")
    recorder.scheduler.finish(recorder.dismissed[0])
    assert recorder.names() == ["a"]
    assert recorder.scheduler.busy


def test_on_stop_is_called_when_the_job_has_to_stop(recorder):
    calls = []
    recorder.add("a")
    recorder.started[0].on_stop(lambda: calls.append("a"))
    assert not calls
    recorder.scheduler.cancel("a")
    assert calls == ["a"]


def test_on_stop_is_called_at_once_if_the_job_had_to_stop_before(recorder):
    calls = []
    recorder.add("a")
    recorder.scheduler.cancel("a")
    recorder.started[0].on_stop(lambda: calls.append("a"))
    assert calls == ["a"]


def test_has_the_goals_at_work_and_waiting(recorder):
    recorder.add("a", "b")
    assert recorder.scheduler.has("a")
    assert recorder.scheduler.has("b")
    assert not recorder.scheduler.has("c")
    recorder.scheduler.finish(recorder.started[0])
    assert not recorder.scheduler.has("a")
    recorder.scheduler.deactivate()
    assert recorder.scheduler.has("b")  # until its work has ended
    recorder.scheduler.finish(recorder.started[1])
    assert not recorder.scheduler.has("b")


def test_callbacks_may_call_the_scheduler():
    """A worker that ends at once calls finish within start."""
    done = []

    def start(job):
        done.append(job.goal)
        scheduler.finish(job)

    scheduler = GoalScheduler(start, lambda job: None)
    scheduler.activate()
    for goal in "abc":
        scheduler.add(goal, "latest")
    assert done == ["a", "b", "c"]
    assert scheduler.idle
