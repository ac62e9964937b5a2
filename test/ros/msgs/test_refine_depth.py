"""Goals, requests, scales and feedback of the action RefineDepth."""

import copy

import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Duration
from fakes import CAMERA, depth_array, header_at, image_at, sample_image
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.metric.anchors import anchors_from_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome, Step
from redepth_ros.core.refine.settings import preset_for
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.refine_depth import (
    GoalOptions,
    RefineRequest,
    RequestDefaults,
    feedback_to_msg,
    goal_to_msg,
    scale_from_msg,
    scale_to_msg,
)
from redepth_ros.ros.msgs.time import seconds_from_duration

DEFAULTS = RequestDefaults(
    lambda preset: preset_for(preset or "default", True), prompt="a desk", max_age=4.0, max_megapixels=1.0
)
SCALE = Scale(3.0, 0.2, (0.01, -0.002, 0.003))
MEASURED = np.full((24, 32), 2.0, np.float32)


def goal(**fields):
    goal = RefineDepth.Goal(image=image_at(1.0), **fields)
    goal.camera_info = camera_to_msg(CAMERA, goal.image.header)
    return goal


def options(**fields):
    return GoalOptions.from_goal(RefineDepth.Goal(**fields), DEFAULTS)


def goal_options(message):
    return GoalOptions.from_goal(message, DEFAULTS)


def request(message=None, frame=None):
    return RefineRequest.from_goal(message or goal(), frame, DEFAULTS)


# The action itself.


def test_outcomes_of_the_core_are_those_of_the_action():
    for outcome in Outcome:
        assert getattr(RefineDepth.Result, f"OUTCOME_{outcome.name}") == outcome
    assert RefineDepth.Result.OUTCOME_FAILED not in list(Outcome)
    assert RefineDepth.Result().outcome not in [*Outcome, RefineDepth.Result.OUTCOME_FAILED]


# Options of a goal.


def test_an_empty_goal_takes_the_values_of_the_server():
    found = options()
    assert found.settings == preset_for("default", True)
    assert (found.scale, found.prompt, found.max_age) == (None, "a desk", 4.0)


def test_a_goal_overrides_the_values_of_the_server():
    found = options(
        preset="paper", steps=7, ensemble_size=3, seed=11, prompt="a cat",
        time_budget=Duration(sec=2, nanosec=500_000_000), max_age=Duration(sec=9),
        scale=3.0, shift=0.2, scale_covariance=[0.01, -0.002, 0.003],
    )  # fmt: skip
    assert (found.settings.steps, found.settings.ensemble_size, found.settings.seed) == (7, 3, 11)
    assert found.settings.time_budget == 2.5
    assert found.settings.guidance_scale == preset_for("paper", True).guidance_scale
    assert (found.scale, found.prompt, found.max_age) == (SCALE, "a cat", 9.0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"preset": "slow"}, "preset is 'slow'; it must be one of: default, paper"),
        ({"steps": 4_000_000_000}, "steps is 4000000000; it must be from 1"),
        ({"ensemble_size": 9999}, "ensemble_size is 9999; it must be from 1 to 100"),
        ({"seed": 2**64 - 1}, "seed is 18446744073709551615"),
        ({"time_budget": Duration(sec=-1)}, r"time_budget is -1\.0"),
        ({"max_age": Duration(sec=-3)}, "max_age is -3 s; it must be at least 0 s"),
        ({"scale": -1.0}, r"scale is -1\.0 and shift 0\.0; the scale must be positive"),
        ({"scale": float("nan")}, "scale is nan"),
        ({"scale": 1.0, "shift": float("inf")}, "shift inf"),
        ({"scale": 1.0, "scale_covariance": [-1.0, 0.0, 0.0]}, r"scale_covariance is \[-1\.0, 0\.0, 0\.0\]"),
        ({"scale": 1.0, "scale_covariance": [0.0, float("nan"), 0.0]}, "scale_covariance is"),
        ({"scale": 1.0, "scale_covariance": [0.0, 0.0, float("inf")]}, "scale_covariance is"),
    ],
)
def test_an_invalid_option_is_an_error_that_names_the_field(fields, words):
    with pytest.raises(ConfigError, match=words):
        options(**fields)


# Requests.


def test_a_request_has_the_image_and_the_camera_of_the_goal():
    message = goal()
    found = request(message)
    np.testing.assert_array_equal(found.image, sample_image())
    assert found.camera == CAMERA
    assert found.camera_info == message.camera_info
    assert found.header == message.image.header
    assert (found.anchors, found.scale, found.prompt) == (None, None, "a desk")


def test_a_goal_without_calibration_has_no_camera():
    message = RefineDepth.Goal(image=image_at(1.0))
    assert request(message).camera is None


@pytest.mark.parametrize("matrix", ["k", "p"])
def test_a_calibration_may_have_one_matrix_only(matrix):
    message = goal()
    setattr(message.camera_info, "p" if matrix == "k" else "k", np.zeros(12 if matrix == "k" else 9))
    assert request(message).camera == CAMERA


def test_a_request_has_the_anchors_and_the_scale_of_the_goal():
    message = goal(scale=3.0)
    message.anchors = image_to_msg(MEASURED, "32FC1", message.image.header)
    found = request(message)
    assert len(found.anchors) == MEASURED.size
    assert found.scale == Scale(3.0)


def frame():
    response = GetFrame.Response(success=True, image=image_at(7.0))
    response.camera_info = camera_to_msg(CAMERA, response.image.header)
    response.anchors = image_to_msg(MEASURED, "32FC1", response.image.header)
    scale_to_msg(SCALE, response)
    return response


def test_a_goal_by_stamp_takes_everything_from_the_frame():
    found = request(RefineDepth.Goal(steps=5), frame())
    assert found.header.stamp.sec == 7
    assert found.camera == CAMERA
    assert found.scale == SCALE
    assert found.anchors.depth[0] == 2.0
    assert found.settings.steps == 5


def test_a_goals_own_anchors_and_scale_replace_those_of_the_frame():
    message = RefineDepth.Goal(scale=5.0)
    message.anchors = image_to_msg(2 * MEASURED, "32FC1", header_at(7.0))
    found = request(message, frame())
    assert found.scale == Scale(5.0)
    assert found.anchors.depth[0] == 4.0


def test_reading_a_goal_does_not_change_it():
    message = RefineDepth.Goal(steps=5)
    before = copy.deepcopy(message)
    request(message, frame())
    assert message == before


def test_an_image_above_the_limit_is_an_error():
    message = RefineDepth.Goal(
        image=image_to_msg(np.zeros((1100, 1000, 3), np.uint8), "rgb8", header_at(1.0))
    )
    with pytest.raises(ImageError, match=r"1\.1 megapixels"):
        request(message)


def test_an_invalid_option_is_an_error_of_the_request():
    with pytest.raises(ConfigError, match="ensemble_size is 9999"):
        request(goal(ensemble_size=9999))


# Messages.


def test_goal_to_msg_writes_all_that_is_known():
    anchors = anchors_from_depth(MEASURED)
    message = goal_to_msg(image_at(1.0), camera_to_msg(CAMERA, header_at(1.0)), anchors, SCALE)
    found = request(message)
    assert (found.camera, found.scale) == (CAMERA, SCALE)
    np.testing.assert_array_equal(depth_array(message.anchors), MEASURED)
    assert message.anchors.header == message.image.header


def test_goal_to_msg_leaves_out_what_is_unknown():
    message = goal_to_msg(image_at(1.0), None, None, None)
    assert message == RefineDepth.Goal(image=image_at(1.0), images=RefineDepth.Goal.IMAGES_OMIT)


def test_a_scale_survives_the_way_to_a_message_and_back():
    for message in (RefineDepth.Goal(), GetFrame.Response()):
        assert scale_from_msg(message) is None
        scale_to_msg(SCALE, message)
        assert scale_from_msg(message) == SCALE


def test_feedback_reports_the_step_and_the_remaining_time():
    step = Step(1, 1, 4, 5, 10, 0.5, 0.3, 0.25, 0.125)  # one of four members done, one half done
    feedback = feedback_to_msg(step, 3.0)
    assert (feedback.member, feedback.ensemble_size, feedback.step, feedback.steps) == (2, 4, 5, 10)
    losses = (feedback.loss, feedback.loss_sds, feedback.loss_smoothness, feedback.loss_anchors)
    assert losses == pytest.approx((0.5, 0.3, 0.25, 0.125))
    assert seconds_from_duration(feedback.elapsed) == 3.0
    assert seconds_from_duration(feedback.remaining) == pytest.approx(5.0)
    assert not feedback.depth.data


def test_feedback_of_the_last_step_has_nothing_remaining():
    feedback = feedback_to_msg(Step(0, 2, 2, 10, 10, 0.5, 0.3, 0.25, 0.125), 3.0)
    assert feedback.member == 1
    assert seconds_from_duration(feedback.remaining) == 0.0


def test_images_are_left_out_for_goals_by_stamp_and_for_keyframes():
    assert goal_options(goal()).images
    assert not options(stamp=header_at(3.0).stamp).images
    assert options(images=RefineDepth.Goal.IMAGES_INCLUDE).images
    assert not request(goal(images=RefineDepth.Goal.IMAGES_OMIT)).images
    assert not goal_options(goal_to_msg(image_at(1.0), None, None, None)).images
    with pytest.raises(ConfigError, match="images is 3"):
        options(images=3)
