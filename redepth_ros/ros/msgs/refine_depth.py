"""Between the action RefineDepth and what the core works with."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from builtin_interfaces.msg import Duration
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from std_msgs.msg import Header

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.result import Step
from redepth_ros.core.metric.scale import Scale
from redepth_ros.ros.streams.anchor_input import anchors_of_image

__all__ = [
    "anchors_of",
    "duration_message",
    "feedback_of",
    "scale_of",
    "seconds_of",
    "settings_of",
    "tell_scale",
]

LONGEST = 2**31 - 1


def seconds_of(duration: Duration) -> float:
    """A Duration in seconds."""
    return float(duration.sec + duration.nanosec * 1e-9)


def duration_message(seconds: float) -> Duration:
    """Seconds, at least 0, as a Duration."""
    nanoseconds = round(min(max(0.0, seconds), LONGEST) * 1e9)
    return Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def settings_of(goal: RefineDepth.Goal, server: RefineSettings) -> RefineSettings:
    """The settings that a goal asks for.

    Args:
        goal: what it leaves at zero is the server's.
        server: its settings, of the goal's preset.

    Raises:
        ConfigError: a value out of its range.
    """
    changes: dict[str, Any] = {}
    if goal.steps:
        changes["steps"] = int(goal.steps)
    if goal.ensemble_size:
        changes["members"] = int(goal.ensemble_size)
    if goal.seed:
        changes["seed"] = int(goal.seed)
    if seconds_of(goal.time_budget):
        changes["time_budget"] = seconds_of(goal.time_budget)
    return dataclasses.replace(server, **changes)


def anchors_of(goal: RefineDepth.Goal, header: Header, height: int, width: int) -> Anchors | None:
    """The anchors of a goal, None where it has none.

    Args:
        goal: the goal.
        header: of its image.
        height, width: of its image, in pixels.

    Raises:
        ImageError, AnchorError: they can't be used, see `anchor_input.anchors_of_image`.
    """
    return anchors_of_image(goal.anchors, header, height, width) if goal.anchors.data else None


def scale_of(goal: RefineDepth.Goal) -> Scale | None:
    """The scale that a goal gives, None where it gives none.

    Raises:
        ConfigError: a scale that is not positive and finite.
    """
    if goal.scale == 0.0:
        return None
    if not (math.isfinite(goal.scale) and goal.scale > 0 and math.isfinite(goal.shift)):
        raise ConfigError(
            f"scale is {goal.scale} and shift {goal.shift}; the scale must be positive, both finite "
            "(a scale of 0 leaves them to the anchors or the server)"
        )
    one, mixed, other = (float(value) for value in goal.scale_covariance)
    return Scale(goal.scale, goal.shift, (one, mixed, other))


def tell_scale(scale: Scale, message: RefineDepth.Goal | GetFrame.Response) -> None:
    """Write a scale into a message, from which `scale_of` reads it."""
    message.scale, message.shift = scale.scale, scale.shift
    message.scale_covariance = scale.covariance


def feedback_of(step: Step, elapsed: float) -> RefineDepth.Feedback:
    """What a step did, after so many seconds; without a depth."""
    feedback = RefineDepth.Feedback()
    feedback.member = min(step.members_done + 1, step.members)
    feedback.members = step.members
    feedback.step, feedback.steps = step.step, step.steps
    for name in ("loss", "loss_sds", "loss_smoothness", "loss_anchors"):
        setattr(feedback, name, getattr(step, name))
    feedback.elapsed = duration_message(elapsed)
    feedback.remaining = duration_message(elapsed * (1.0 / step.share - 1.0))
    return feedback
