"""The action RefineDepth: built, and its constants and parts are those documented."""

import pytest

pytest.importorskip("rclpy")

from redepth_interfaces.action import RefineDepth

from redepth_ros.core.refine.result import Outcome


def test_an_empty_goal_asks_for_the_newest_frame_with_the_servers_settings():
    goal = RefineDepth.Goal()
    assert not goal.image.data
    assert (goal.stamp.sec, goal.stamp.nanosec) == (0, 0)
    assert (goal.preset, goal.steps, goal.ensemble_size, goal.seed, goal.prompt) == ("", 0, 0, 0, "")
    assert goal.time_budget == goal.max_age


def test_outcomes_are_distinct_and_unset_is_none_of_them():
    result = RefineDepth.Result
    outcomes = {
        result.OUTCOME_REFINED,
        result.OUTCOME_STOPPED_EARLY,
        result.OUTCOME_KEPT_FAST,
        result.OUTCOME_FAILED,
    }
    assert len(outcomes) == 4
    assert result().outcome not in outcomes


def test_outcomes_of_the_core_are_those_of_the_action():
    for outcome in Outcome:
        assert getattr(RefineDepth.Result, f"OUTCOME_{outcome.name}") == outcome
    assert RefineDepth.Result.OUTCOME_FAILED not in list(Outcome)
