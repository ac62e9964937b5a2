"""The action RefineDepth: goals to requests, progress and scales to messages."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from numpy.typing import NDArray
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.ros.msgs.anchor_image import anchors_from_msg, anchors_to_msg
from redepth_ros.ros.msgs.camera_info import camera_from_msg
from redepth_ros.ros.msgs.images import image_from_msg
from redepth_ros.ros.msgs.time import duration_from_seconds, seconds_from_duration

__all__ = [
    "FINAL_STATES",
    "GoalOptions",
    "RefineRequest",
    "RequestDefaults",
    "feedback_to_msg",
    "goal_to_msg",
    "scale_from_msg",
    "scale_to_msg",
]

FINAL_STATES = {
    GoalStatus.STATUS_SUCCEEDED: "succeeded",
    GoalStatus.STATUS_CANCELED: "cancelled",
    GoalStatus.STATUS_ABORTED: "aborted",
}
"""Names of the states of a goal that has ended, by the status."""

IMAGES = (
    RefineDepth.Goal.IMAGES_AUTO,
    RefineDepth.Goal.IMAGES_INCLUDE,
    RefineDepth.Goal.IMAGES_OMIT,
)


@dataclass(frozen=True)
class RequestDefaults:
    """Values of the server that a goal may override, and the server's own limits."""

    settings_of_preset: Callable[[str], RefineSettings]
    """Returns the settings of a preset by its name; of the server's preset for an empty name. Raises
    ConfigError for an unknown name."""
    prompt: str = ""
    max_age: float = 0.0
    """Seconds; 0 disables the limit."""
    max_megapixels: float = float("inf")


@dataclass(frozen=True)
class GoalOptions:
    """The part of a goal that can be checked without its image."""

    settings: RefineSettings
    scale: Scale | None
    """None if the goal gives no scale."""
    prompt: str
    max_age: float
    """Maximum age of a published result, seconds; 0 disables the limit."""
    images: bool
    """Whether result and feedback have images."""

    @classmethod
    def from_goal(cls, goal: RefineDepth.Goal, defaults: RequestDefaults) -> GoalOptions:
        """Read the options of a goal; fields that are zero or empty take the server's values.

        Raises:
            ConfigError: a value is out of its range. The message names the goal's field.
        """
        settings = defaults.settings_of_preset(goal.preset)
        overrides: dict[str, Any] = {
            "steps": int(goal.steps),
            "ensemble_size": int(goal.ensemble_size),
            "seed": int(goal.seed),
            "time_budget": seconds_from_duration(goal.time_budget),
        }
        given = {name: value for name, value in overrides.items() if value}
        max_age = seconds_from_duration(goal.max_age)
        if max_age < 0.0:
            raise ConfigError(
                f"max_age is {max_age:g} s; it must be at least 0 s (0 takes the server's value)"
            )
        if goal.images not in IMAGES:
            raise ConfigError(f"images is {goal.images}; it must be one of {', '.join(map(str, IMAGES))}")
        included = goal.images == RefineDepth.Goal.IMAGES_INCLUDE
        if goal.images == RefineDepth.Goal.IMAGES_AUTO:
            included = bool(goal.image.data)
        return cls(
            dataclasses.replace(settings, **given),
            scale_from_msg(goal),
            goal.prompt or defaults.prompt,
            max_age or defaults.max_age,
            included,
        )


@dataclass(frozen=True)
class RefineRequest:
    """A goal, read once, with its image."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    header: Header
    """Of the image."""
    camera: PinholeCamera | None
    """None without a calibration."""
    camera_info: CameraInfo
    """The calibration as a message; empty (k[0] and p[0] are 0) without one."""
    anchors: Anchors | None
    scale: Scale | None
    """None if neither the goal nor the frame gives a scale."""
    settings: RefineSettings
    prompt: str
    max_age: float
    """Maximum age of a published result, seconds; 0 disables the limit."""
    images: bool
    """Whether result and feedback have images."""

    @classmethod
    def from_goal(
        cls, goal: RefineDepth.Goal, frame: GetFrame.Response | None, defaults: RequestDefaults
    ) -> RefineRequest:
        """Read a goal.

        Args:
            goal: is not changed.
            frame: the response of `get_frame` to a goal that names a stamp; None for a goal that has
                an image. The goal's own anchors and scale take precedence over those of the frame.
            defaults: of the server.

        Raises:
            ConfigError: an option or the calibration is invalid.
            ImageError, AnchorError: the image or the anchors can't be used.
        """
        options = GoalOptions.from_goal(goal, defaults)
        source = goal if frame is None else frame
        message, info = source.image, source.camera_info
        image = image_from_msg(message, defaults.max_megapixels)
        height, width = image.shape[:2]
        # A calibration may have K, P or both.
        camera = camera_from_msg(info, height, width) if info.k[0] or info.p[0] else None
        measured = goal.anchors if goal.anchors.data else source.anchors
        anchors = anchors_from_msg(measured, message.header, height, width) if measured.data else None
        scale = options.scale or scale_from_msg(source)
        return cls(
            image,
            message.header,
            camera,
            info,
            anchors,
            scale,
            options.settings,
            options.prompt,
            options.max_age,
            options.images,
        )


def goal_to_msg(
    image: Image, camera_info: CameraInfo | None, anchors: Anchors | None, scale: Scale | None
) -> RefineDepth.Goal:
    """Make the goal of a keyframe; its scale is left out where None. The result needs no images."""
    goal = RefineDepth.Goal(image=image, images=RefineDepth.Goal.IMAGES_OMIT)
    if camera_info is not None:
        goal.camera_info = camera_info
    if anchors is not None:
        goal.anchors = anchors_to_msg(anchors, image.header)
    if scale is not None:
        scale_to_msg(scale, goal)
    return goal


def scale_from_msg(message: RefineDepth.Goal | GetFrame.Response) -> Scale | None:
    """Read the scale of a message; None if its field `scale` is 0.

    Raises:
        ConfigError: the scale is not positive, or a value is not finite.
    """
    if message.scale == 0.0:
        return None
    if not (math.isfinite(message.scale) and message.scale > 0 and math.isfinite(message.shift)):
        raise ConfigError(
            f"scale is {message.scale} and shift {message.shift}; the scale must be positive and both finite "
            "(a scale of 0 leaves the scale to the anchors or to the server)"
        )
    var_scale, covariance, var_shift = (float(value) for value in message.scale_covariance)
    if not (math.isfinite(covariance) and 0 <= var_scale < math.inf and 0 <= var_shift < math.inf):
        raise ConfigError(
            f"scale_covariance is {[var_scale, covariance, var_shift]}; its values must be finite and both "
            "variances (the first and the last) at least 0"
        )
    return Scale(message.scale, message.shift, (var_scale, covariance, var_shift))


def scale_to_msg(scale: Scale, message: RefineDepth.Goal | GetFrame.Response) -> None:
    """Write a scale to the fields of a message, see `scale_from_msg`."""
    message.scale, message.shift = scale.scale, scale.shift
    message.scale_covariance = scale.covariance


def feedback_to_msg(step: Step, elapsed: float) -> RefineDepth.Feedback:
    """Make the feedback of a step, without a depth image.

    Args:
        step: the last one done.
        elapsed: seconds since execution began.
    """
    feedback = RefineDepth.Feedback()
    feedback.member = min(step.members_done + 1, step.ensemble_size)
    feedback.ensemble_size = step.ensemble_size
    feedback.step, feedback.steps = step.step, step.steps
    for name in ("loss", "loss_sds", "loss_smoothness", "loss_anchors"):
        setattr(feedback, name, getattr(step, name))
    feedback.elapsed = duration_from_seconds(elapsed)
    feedback.remaining = duration_from_seconds(elapsed * (1.0 / step.progress - 1.0))
    return feedback
