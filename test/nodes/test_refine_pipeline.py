"""The refinement of one goal with a fake engine, without a graph."""

import time

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Duration
from fakes import CAMERA, FakeEngine, depth_array, header_at, image_at, sample_image
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome
from redepth_ros.nodes import refine_pipeline
from redepth_ros.nodes.guard import FailureCount
from redepth_ros.nodes.refine_pipeline import RefinePipeline
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.refine_depth import scale_to_msg
from redepth_ros.ros.msgs.time import seconds_from_duration
from redepth_ros.ros.streams.goal_scheduler import Job

Result = RefineDepth.Result


class FakeFrames:
    """Frames of a node, or an error."""

    def __init__(self):
        self.response, self.error, self.stamps = None, None, []

    def fetch(self, stamp, stop_reason):
        self.stamps.append(stamp)
        if self.error is not None:
            raise self.error
        return self.response


class FakeTopics:
    def __init__(self):
        self.published = []

    def publish(self, frame, max_age):
        self.published.append((frame, max_age))


class FakeLog:
    def __init__(self):
        self.warnings, self.errors = [], []
        self.warn, self.error = self.warnings.append, self.errors.append


class Setup:
    def __init__(self, **engine):
        self.frames, self.topics, self.log = FakeFrames(), FakeTopics(), FakeLog()
        self.engine = FakeEngine(**engine)
        self.pipeline = RefinePipeline(
            self.frames, self.topics, self.log, lambda: True, FailureCount(9, print)
        )
        self.feedback = []
        self.job = Job("goal")

    def refine(self, goal=None, **parameters):
        settings = ServerSettings(**{"steps": 4, "ensemble_size": 1, **parameters})
        return self.pipeline.refine(self.job, goal or make_goal(), self.engine, settings, self.on_feedback)

    def on_feedback(self, feedback):
        self.feedback.append(feedback)


@pytest.fixture
def setup():
    return Setup()


def make_goal(**fields):
    goal = RefineDepth.Goal(image=image_at(1.0), **fields)
    goal.camera_info = camera_to_msg(CAMERA, goal.image.header)
    return goal


def test_a_refined_goal_is_published_and_returned(setup):
    result = setup.refine()
    (frame, max_age), *others = setup.topics.published
    assert not others
    assert max_age == 0.0
    assert (result.outcome, result.steps) == (Result.OUTCOME_REFINED, 4)
    assert result.message == "refined after 4 of 4 steps"
    for message, values in (
        (result.depth, frame.depth),
        (result.stddev, frame.stddev),
        (result.fast_depth, frame.fast),
    ):
        np.testing.assert_array_equal(depth_array(message), values.numpy())
        assert message.header == header_at(1.0)
    assert result.camera_info.k[0] == CAMERA.fx
    assert seconds_from_duration(result.elapsed) >= 0.0
    assert setup.pipeline.counts == {"refined": 1, "stopped early": 0, "kept fast": 0, "failed": 0}
    assert setup.pipeline.last_message == result.message


def test_a_goal_without_a_scale_has_that_of_the_calibration(setup):
    setup.engine.model.scale_source = "calibration"
    setup.refine()
    setup.refine(scale=2.0)
    setup.refine(make_goal(scale=0.5))
    one, doubled, given = (frame.depth.nanmedian() for frame, _ in setup.topics.published)
    np.testing.assert_allclose([doubled / one, given / one], [2.0, 0.5 * 300.0 / CAMERA.fx], rtol=1e-5)


def test_a_goal_with_a_scale_and_no_prompt_is_refused(setup, monkeypatch):
    """Its scale is that of depth with a prompt."""
    monkeypatch.setattr(refine_pipeline, "takes_prompt", lambda network: network is setup.engine.model)
    assert setup.refine().outcome == Result.OUTCOME_REFINED
    result = setup.refine(make_goal(scale=1.1))
    assert result.outcome == Result.OUTCOME_FAILED
    assert result.message.startswith(
        "the goal has a scale and no anchors, but anchors are the prompt of 'fake'"
    )
    goal = make_goal(scale=1.1)
    goal.anchors = image_to_msg(np.full((24, 32), 2.0, np.float32), "32FC1", goal.image.header)
    assert setup.refine(goal).outcome == Result.OUTCOME_REFINED


def test_the_run_gets_what_the_goal_says(setup):
    goal = make_goal(steps=7, ensemble_size=2, seed=3, prompt="a cat", scale=2.0, shift=0.1)
    goal.anchors = image_to_msg(np.full((24, 32), 2.0, np.float32), "32FC1", goal.image.header)
    setup.refine(goal, input_size=100)
    (run,) = setup.engine.runs
    assert (run.settings.steps, run.settings.ensemble_size, run.settings.seed) == (7, 2, 3)
    assert run.options["camera"] == CAMERA
    assert run.options["prompt"] == "a cat"
    assert run.options["input_size"] == 100
    assert run.options["scale"] == Scale(2.0, 0.1)
    assert len(run.options["anchors"]) == 24 * 32
    np.testing.assert_array_equal(run.image, sample_image())


@pytest.mark.parametrize(
    ("fields", "anchored", "expected"),
    [
        ({"scale": 2.0, "shift": 0.2}, True, Scale(2.0, 0.2)),
        ({}, True, Scale(3.0, 0.1)),  # fitted by the run
        ({}, False, Scale(5.0, 0.3)),  # of the parameters
    ],
)
def test_the_scale_is_that_of_the_goal_the_anchors_or_the_parameters(setup, fields, anchored, expected):
    goal = make_goal(**fields)
    if anchored:
        goal.anchors = image_to_msg(np.full((24, 32), 2.0, np.float32), "32FC1", goal.image.header)
    setup.refine(goal, scale=5.0, shift=0.3)
    frame = setup.topics.published[0][0]
    fast = setup.engine.model.output(sample_image())[::2, ::2]
    disparity = np.median(fast.numpy())
    assert np.median(frame.fast.numpy()) == pytest.approx(
        expected.scale / (disparity + expected.shift), rel=0.03
    )


def test_a_goal_by_stamp_is_refined_on_the_fetched_frame(setup):
    setup.frames.response = GetFrame.Response(success=True, image=image_at(7.0))
    setup.frames.response.camera_info = camera_to_msg(CAMERA, header_at(7.0))
    scale_to_msg(Scale(2.0), setup.frames.response)
    result = setup.refine(RefineDepth.Goal(stamp=header_at(7.0).stamp))
    assert setup.frames.stamps == [header_at(7.0).stamp]
    assert result.depth.header == header_at(7.0)
    assert setup.engine.runs[0].options["scale"] == Scale(2.0)


def test_a_frame_that_can_not_be_fetched_is_a_failure(setup):
    setup.frames.error = ConfigError("no service /get_frame")
    result = setup.refine(RefineDepth.Goal())
    assert (result.outcome, result.message) == (Result.OUTCOME_FAILED, "no service /get_frame")
    assert setup.log.warnings == ["goal failed: no service /get_frame"]
    assert setup.pipeline.counts["failed"] == 1
    assert not setup.topics.published


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ZeroDivisionError("oh"), "ZeroDivisionError: oh; the server's log has the details"),
        (MemoryError("30 GB"), "out of memory: 30 GB; lower input_size"),
    ],
)
def test_an_unexpected_error_is_a_failure_and_the_next_goal_is_refined(setup, error, words):
    setup.engine.error = error
    result = setup.refine()
    assert result.outcome == Result.OUTCOME_FAILED
    assert words in result.message
    assert len(setup.log.errors) == 1
    setup.engine.error = None
    assert setup.refine().outcome == Result.OUTCOME_REFINED


def test_max_age_of_goal_and_parameters_is_passed_on(setup):
    setup.refine(max_age=4.0)
    setup.refine(make_goal(max_age=Duration(sec=9)), max_age=4.0)
    assert [max_age for _, max_age in setup.topics.published] == [4.0, 9.0]


def test_outcomes_are_counted_and_returned(setup):
    for outcome in Outcome:
        setup.engine.outcome = outcome
        assert setup.refine().outcome == outcome
    assert setup.pipeline.counts == {"refined": 1, "stopped early": 1, "kept fast": 1, "failed": 0}


def test_a_job_that_has_to_stop_returns_the_best_so_far():
    setup = Setup(step_time=0.001)
    setup.on_feedback = lambda feedback: setup.job.stop("cancelled")
    result = setup.refine(steps=100_000)
    assert result.outcome == Result.OUTCOME_STOPPED_EARLY
    assert result.message.endswith("of 100000 steps (cancelled)")
    assert setup.job.stopped
    assert setup.topics.published


def test_a_job_that_is_done_when_it_has_to_stop_is_not_stopped(setup):
    setup.on_feedback = lambda feedback: setup.job.stop("cancelled")
    result = setup.refine(steps=1)
    assert result.outcome == Result.OUTCOME_REFINED
    assert "cancelled" not in result.message
    assert not setup.job.stopped


def test_feedback_is_sent_at_most_ten_times_a_second():
    setup = Setup(step_time=0.01)
    setup.refine(steps=40, preview_period=0.0)
    steps = [feedback.step for feedback in setup.feedback]
    assert steps[0] == 1
    assert steps == sorted(steps)
    assert 3 <= len(steps) <= 20
    assert all(f.steps == 40 and f.ensemble_size == 1 and f.member == 1 for f in setup.feedback)
    assert not any(f.depth.data for f in setup.feedback)


def test_feedback_has_a_preview_once_in_its_period():
    setup = Setup(step_time=0.02)
    setup.refine(steps=30, preview_period=0.25)
    previews = [feedback.depth for feedback in setup.feedback if feedback.depth.data]
    assert 1 <= len(previews) < len(setup.feedback)
    assert all(preview.header == header_at(1.0) for preview in previews)
    assert depth_array(previews[0]).shape == (24, 32)


def test_elapsed_counts_from_the_start_of_the_job(setup):
    setup.job.started_at = time.monotonic() - 5.0
    assert 5.0 <= seconds_from_duration(setup.refine().elapsed) < 15.0


def test_a_network_whose_output_is_nan_in_places_is_reported_with_the_remedy(setup):
    output = setup.engine.model.output

    def overflow(image):
        values = output(image)
        values[:, ::2] = torch.nan
        return values

    setup.engine.model.output, setup.engine.model.dtype = overflow, torch.float16
    result = setup.refine()
    assert result.outcome == Result.OUTCOME_REFINED
    assert "set precision to float32" in result.message
    assert setup.log.warnings == [result.message.split("; ", 1)[1]]


def test_refined_depth_that_is_masked_throughout_is_reported(setup):
    result = setup.refine(scale=1000.0, max_depth=20.0)
    assert result.outcome == Result.OUTCOME_REFINED
    assert "; no pixel of the depth is valid: all are masked by" in result.message
    assert setup.log.warnings == [result.message.split("; ", 1)[1]]
