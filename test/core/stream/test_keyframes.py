"""When a frame is a keyframe."""

from itertools import pairwise

import pytest
import torch

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.stream.keyframes import Keyframes

HERE, THERE = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])


def rule(policy, interval=2.0, spacing=0.5, motion=0.1):
    return Keyframes(policy, interval=interval, spacing=spacing, motion=motion)


def taken(rule, frames):
    """Times of the frames, (time, signature), that became keyframes."""
    times = []
    for time, signature in frames:
        if rule.is_due(time, signature):
            rule.take(time, signature)
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
def test_a_still_scene(policy, expected):
    assert taken(rule(policy), STILL) == expected


def test_motion_is_change_since_the_last_keyframe_not_since_the_last_frame():
    angles = torch.linspace(0.0, 1.5, 61)
    slow = [(float(a), torch.tensor([torch.cos(a), torch.sin(a)])) for a in angles]
    times = taken(rule("motion", spacing=0.0), slow)
    assert times[0] == 0.0
    assert len(times) == 4  # cos falls by 0.1 every 0.45 rad
    for earlier, later in pairwise(times):
        assert later - earlier == pytest.approx(0.475, abs=0.03)


def test_spacing_holds_motion_back():
    assert taken(rule("motion"), [(0.0, HERE), (0.1, THERE), (0.6, THERE)]) == [0.0, 0.6]


@pytest.mark.parametrize("policy", ["interval", "motion", "on_request", "all"])
def test_a_request_is_granted_at_once_and_once(policy):
    found = rule(policy, spacing=100.0)
    taken(found, [(0.0, HERE)])
    found.request()
    assert taken(found, [(0.1, HERE), (0.2, HERE)]) == [0.1]


def test_a_request_waits_for_a_server():
    """What is due stays due until it is taken."""
    found = rule("on_request")
    found.request()
    assert found.is_due(0.0, HERE)
    assert found.is_due(0.1, HERE)


def test_time_that_jumps_back_begins_anew():
    found = rule("interval")
    assert taken(found, [(100.0, HERE), (3.0, HERE), (4.0, HERE), (5.0, HERE)]) == [100.0, 3.0, 5.0]


def test_another_policy_is_refused():
    with pytest.raises(ConfigError, match="keyframe policy is 'some'"):
        rule("some")
