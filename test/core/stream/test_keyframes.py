"""Selection of keyframes."""

from itertools import pairwise

import pytest
import torch

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.stream.keyframes import KeyframeSelector

HERE, THERE = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def selector(policy, interval=2.0, min_interval=0.5, motion_threshold=0.1):
    return KeyframeSelector(
        policy, interval=interval, min_interval=min_interval, motion_threshold=motion_threshold
    )


def accepted(selector, frames):
    """Return the times of the frames, (time, class token), that became keyframes."""
    times = []
    for time, class_token in frames:
        if selector.is_due(time, class_token):
            selector.accept(time, class_token)
            times.append(time)
    return times


STILL = [(0.25 * number, HERE) for number in range(20)]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("none", []),
        ("interval", [0.0, 2.0, 4.0]),
        ("all", [0.5 * number for number in range(10)]),
        ("motion", [0.0]),
        ("on_request", []),
    ],
)
def test_keyframes_of_a_still_scene(policy, expected):
    assert accepted(selector(policy), STILL) == expected


def test_motion_is_measured_since_the_last_keyframe_not_since_the_last_frame():
    angles = torch.linspace(0.0, 1.5, 61)
    slow = [(float(a), torch.tensor([torch.cos(a), torch.sin(a)])) for a in angles]
    times = accepted(selector("motion", min_interval=0.0), slow)
    assert times[0] == 0.0
    assert len(times) == 4  # cos falls by 0.1 every 0.45 rad
    for earlier, later in pairwise(times):
        assert later - earlier == pytest.approx(0.475, abs=0.03)


def test_distance_is_the_cosine_distance_to_the_last_keyframe():
    found = selector("motion")
    assert found.distance(HERE) == 0.0
    found.accept(0.0, 3.0 * HERE)
    assert found.distance(HERE) == 0.0
    assert found.distance(THERE) == pytest.approx(1.0)
    assert found.distance(-HERE) == pytest.approx(2.0)


def test_an_accepted_class_token_is_copied():
    found, token = selector("motion"), HERE.clone()
    found.accept(0.0, token)
    token.copy_(THERE)
    assert found.distance(HERE) == 0.0


@pytest.mark.parametrize("policy", ["motion", "interval", "all"])
def test_keyframes_are_at_least_min_interval_apart(policy):
    frames = [(0.0, HERE), (0.1, THERE), (0.4, THERE), (0.6, THERE)]
    assert accepted(selector(policy, interval=0.05), frames) == [0.0, 0.6]


@pytest.mark.parametrize("policy", ["interval", "motion", "on_request", "all"])
def test_a_request_is_granted_at_once_and_once(policy):
    found = selector(policy, min_interval=100.0)
    accepted(found, [(0.0, HERE)])
    found.request()
    assert accepted(found, [(0.1, HERE), (0.2, HERE)]) == [0.1]


def test_policy_none_grants_no_request():
    found = selector("none")
    found.request()
    assert accepted(found, STILL) == []


def test_a_request_stays_due_until_a_frame_is_accepted():
    found = selector("on_request")
    found.request()
    assert found.is_due(0.0, HERE)
    assert found.is_due(0.1, HERE)
    found.accept(0.1, HERE)
    assert not found.is_due(0.2, HERE)


def test_a_clock_that_jumps_back_starts_anew():
    found = selector("interval")
    frames = [(100.0, HERE), (3.0, HERE), (4.0, HERE), (5.0, HERE)]
    assert accepted(found, frames) == [100.0, 3.0, 5.0]
    on_request = selector("on_request")
    on_request.accept(100.0, HERE)
    assert not on_request.is_due(3.0, HERE)


def test_another_policy_is_rejected():
    with pytest.raises(ConfigError, match="keyframe policy is 'some'; it must be one of: none, interval"):
        selector("some")
