"""The refinement of one goal, from its message to its result."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import Image

from redepth_ros.core.errors import AnchorError, OutOfMemory, RedepthError
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.refine.result import Outcome, Refinement
from redepth_ros.core.refine.run import Run
from redepth_ros.core.validity import output_problem
from redepth_ros.models.engine import Engine
from redepth_ros.models.prompt_depth_anything import takes_prompt
from redepth_ros.nodes.guard import FailureCount
from redepth_ros.nodes.refined_topics import RefinedFrame, RefinedTopics
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.nodes.validity import depth_problem
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.refine_depth import RefineRequest, RequestDefaults, feedback_to_msg
from redepth_ros.ros.msgs.time import duration_from_seconds
from redepth_ros.ros.node.throttled_log import ThrottledLog
from redepth_ros.ros.streams.frame_client import FrameClient
from redepth_ros.ros.streams.goal_scheduler import Job

__all__ = ["RefinePipeline", "request_defaults"]

FEEDBACK_PERIOD = 0.1
"""Smallest time between two feedback messages, seconds."""

FAILED = RefineDepth.Result.OUTCOME_FAILED


def request_defaults(settings: ServerSettings, light_conditioned: bool) -> RequestDefaults:
    """Return the values that goals may override.

    Args:
        settings: of the server.
        light_conditioned: of the prior, see `Prior.light_conditioned`.
    """
    return RequestDefaults(
        lambda preset: settings.refinement(light_conditioned=light_conditioned, preset=preset),
        settings.prompt,
        settings.max_age,
        settings.max_megapixels,
    )


class RefinePipeline:
    """Refines goals, publishes the refined topics and makes results; runs in the model thread."""

    def __init__(
        self,
        frames: FrameClient,
        topics: RefinedTopics,
        log: ThrottledLog,
        is_running: Callable[[], bool],
        failures: FailureCount,
    ) -> None:
        """Args:
        frames: fetches the images of goals that name a stamp.
        topics: publish the results.
        log: receives the reasons of failures.
        is_running: whether ROS runs; unexpected errors while it shuts down are not logged.
        failures: counts unexpected errors.
        """
        self._frames, self._topics, self._log, self._is_running = frames, topics, log, is_running
        self._failures = failures
        self.counts = {outcome.label: 0 for outcome in Outcome} | {"failed": 0}
        """Goals by their outcome."""
        self.last_message = "none"
        """Message of the last result."""

    def refine(
        self,
        job: Job[Any],
        goal: RefineDepth.Goal,
        engine: Engine,
        settings: ServerSettings,
        send_feedback: Callable[[RefineDepth.Feedback], None],
    ) -> RefineDepth.Result:
        """Refine a goal; whatever happens, return a result.

        Args:
            job: the refinement ends as soon as the job has to stop.
            goal: the message.
            engine: the networks.
            settings: of the server.
            send_feedback: called at most every FEEDBACK_PERIOD.
        """
        try:
            with memory_errors():
                result = self._refine(job, goal, engine, settings, send_feedback)
            self._failures.reset()
        except OutOfMemory as error:
            result = self.failure(f"{error}; lower input_size or choose smaller networks")
            self._log.error(f"goal failed: {error}")
        except RedepthError as error:
            result = self.failure(str(error))
            self._log.warn(f"goal failed: {error}")
        except Exception as error:  # the next goal may be good
            result = self.failure(f"{type(error).__name__}: {error}; the server's log has the details")
            if self._is_running():
                self._log.error(f"goal failed: {traceback.format_exc()}")
                self._failures.add(error)
        result.elapsed = duration_from_seconds(time.monotonic() - job.started_at)
        return result

    def failure(self, message: str) -> RefineDepth.Result:
        """Return the result of a goal that has no depth, and count it."""
        self.counts["failed"] += 1
        self.last_message = message
        return RefineDepth.Result(outcome=FAILED, message=message)

    def _refine(
        self,
        job: Job[Any],
        goal: RefineDepth.Goal,
        engine: Engine,
        settings: ServerSettings,
        send_feedback: Callable[[RefineDepth.Feedback], None],
    ) -> RefineDepth.Result:
        frame = None if goal.image.data else self._frames.fetch(goal.stamp, lambda: job.stop_reason)
        request = RefineRequest.from_goal(
            goal, frame, request_defaults(settings, engine.prior.light_conditioned)
        )
        if takes_prompt(engine.model) and request.scale is not None and request.anchors is None:
            raise AnchorError(
                f"the goal has a scale and no anchors, but anchors are the prompt of {engine.model.name!r}, "
                "which has another unit without it; send anchors, or leave out the scale"
            )
        run = engine.start(
            request.image,
            request.settings,
            camera=request.camera,
            prompt=request.prompt,
            input_size=settings.input_size,
            anchors=request.anchors,
            scale=request.scale,
        )
        scale = request.scale or run.scale or settings.fixed_scale(run.metric, run.known_scale)
        to_frame = partial(RefinedFrame.from_refinement, request=request, scale=scale, settings=settings)
        preview_period = settings.preview_period if request.images else 0.0
        self._optimise(job, run, to_frame, preview_period, send_feedback)
        refinement = run.result()
        refined = to_frame(refinement)
        problem = output_problem(refinement.fast, engine.model.dtype) or depth_problem(
            refined.depth, refined.stddev, settings
        )
        if problem:
            self._log.warn(problem)
        self._topics.publish(refined, request.max_age)
        stop_reason = job.stop_reason if job.stopped else ""
        return self._result(refinement, refined, stop_reason, problem, request.images)

    def _optimise(
        self,
        job: Job[Any],
        run: Run,
        to_frame: Callable[[Refinement], RefinedFrame],
        preview_period: float,
        send_feedback: Callable[[RefineDepth.Feedback], None],
    ) -> None:
        """Do the steps of a run and report them, until all are done or the job has to stop."""
        job.on_stop(run.request_stop)
        progress, reported_at, previewed_at = 0.0, 0.0, job.started_at
        for step in run.steps():
            now = time.monotonic()
            if now - reported_at >= FEEDBACK_PERIOD:
                reported_at = now
                feedback = feedback_to_msg(step, now - job.started_at)
                if preview_period and now - previewed_at >= preview_period:
                    previewed_at = now
                    preview = to_frame(run.result())
                    feedback.depth = image_to_msg(preview.depth.numpy(), "32FC1", preview.header)
                send_feedback(feedback)
            progress = step.progress
        job.stopped = bool(job.stop_reason) and progress < 1.0

    def _result(
        self, refinement: Refinement, frame: RefinedFrame, stop_reason: str, problem: str, images: bool
    ) -> RefineDepth.Result:
        result = RefineDepth.Result(outcome=int(refinement.outcome), steps=refinement.steps)
        result.message = refinement.message + (f" ({stop_reason})" if stop_reason else "")
        if problem:
            result.message += f"; {problem}"
        for name, values in (("depth", frame.depth), ("fast_depth", frame.fast), ("stddev", frame.stddev)):
            # An image that the client did not want has its header only.
            whole = image_to_msg(values.numpy(), "32FC1", frame.header) if images else None
            setattr(result, name, whole or Image(header=frame.header))
        result.camera_info = frame.camera_info
        self.counts[refinement.outcome.label] += 1
        self.last_message = result.message
        return result
