"""The executable `refine_server`: refines keyframes by an action, one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

import rclpy.task
from action_msgs.msg import GoalStatus
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from redepth_interfaces.action import RefineDepth

from redepth_ros.core.errors import RedepthError
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.engine import Engine
from redepth_ros.nodes.guard import FailureCount
from redepth_ros.nodes.network_node import NetworkNode
from redepth_ros.nodes.refine_pipeline import FAILED, RefinePipeline, request_defaults
from redepth_ros.nodes.refined_topics import RefinedTopics
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.refine_depth import GoalOptions, RefineRequest
from redepth_ros.ros.node.diagnostics import Health
from redepth_ros.ros.node.lifecycle import spin
from redepth_ros.ros.node.qos import GOALS
from redepth_ros.ros.streams.frame_client import FrameClient
from redepth_ros.ros.streams.goal_scheduler import GoalScheduler, Job

__all__ = ["RefineServer", "main"]

MAX_FAILURES = 3
"""Goals in a row with unexpected errors after which the node gives up."""

RESULT_TIMEOUT = 30
"""Seconds for which a result is kept for its client; its images take memory until then."""


class RefineServer(NetworkNode[ServerSettings, Engine]):
    """Serves the action `refine`; see the README for topics and parameters.

    The executor's thread accepts, schedules and cancels goals; the model thread refines and publishes. A
    cancelled goal ends within its optimisation step.
    """

    def __init__(self) -> None:
        super().__init__("refine_server", ServerSettings, "refinement")
        self._scheduler: GoalScheduler[ServerGoalHandle] = GoalScheduler(self._start_job, self._dismiss_job)
        self._work: Future[None] | None = None
        self._topics = RefinedTopics(self, self.log.warn)
        self._failures = FailureCount(MAX_FAILURES, self.give_up)
        self._pipeline = RefinePipeline(
            FrameClient(self), self._topics, self.log, self.context.ok, self._failures
        )
        self.add_health("goals", self._goals_health)
        self._server = ActionServer(
            self,
            RefineDepth,
            "refine",
            execute_callback=self._end_job,  # replaced for each goal
            goal_callback=self._check_goal,
            handle_accepted_callback=self._accept,
            cancel_callback=self._cancel,
            goal_service_qos_profile=GOALS,
            result_service_qos_profile=GOALS,
            result_timeout=RESULT_TIMEOUT,
        )

    # Transitions.

    def model_names(self, settings: ServerSettings) -> str:
        return f"model {settings.model!r} and prior {settings.prior!r}"

    def depth_network(self, networks: Engine) -> DepthAnything:
        return networks.model

    def load(self, settings: ServerSettings) -> Engine:
        engine = Engine.load(
            settings.model,
            settings.prior,
            vae=settings.vae,
            prior_runtime=settings.prior_runtime,
            captioner=settings.captioner,
            cache_captioner=settings.cache_captioner,
            device=settings.device,
            precision=settings.precision,
            report=self.report_progress,
        )
        if settings.prior_runtime != "torch":
            self.report_progress("compiling the prior, which takes minutes")
            refinement = settings.refinement(light_conditioned=engine.prior.light_conditioned)
            engine.warm_up(refinement, settings.input_size)
        return engine

    def connect(self, networks: Engine, settings: ServerSettings) -> None:
        """Warn about a prior that is too large for its device, and about results that are too old."""
        if settings.age_warning:
            self.log.warn(settings.age_warning)
        if networks.model.device.type == "cpu" and networks.prior.needs_gpu:
            self.log.warn(
                f"prior {settings.prior!r} is too large for a CPU, where each optimisation step takes "
                "minutes: it needs a GPU (parameter device)"
            )

    def adopt(self, settings: ServerSettings) -> None:
        if settings.age_warning and settings.age_warning != self.settings.age_warning:
            self.log.warn(settings.age_warning)

    def start(self) -> None:
        """Accept goals from now on."""
        self._topics.reset()
        self._failures.reset()
        self._scheduler.activate()
        self.active = True

    def begin_stop(self) -> Future[None] | None:
        """Accept no more goals; the one at work ends with its best so far, those that wait end now."""
        self.active = False
        self._scheduler.deactivate()
        return self._work

    @property
    def settled(self) -> bool:
        """Whether every goal has its final state."""
        return self._scheduler.idle

    def destroy_node(self) -> None:
        """Destroy the node and its action server, which no lifecycle transition does."""
        self._server.destroy()
        super().destroy_node()

    # Goals, in the executor's thread.

    def _check_goal(self, goal: RefineDepth.Goal) -> GoalResponse:
        """Reject a goal that has no place."""
        reason = self._scheduler.rejection(self.settings.policy, self.settings.queue_size)
        if reason:
            self.log.warn(f"goal rejected: {reason}")
        return GoalResponse.REJECT if reason else GoalResponse.ACCEPT

    def _accept(self, handle: ServerGoalHandle) -> None:
        """Schedule a goal; an invalid one ends at once, and does not displace the goal at work.

        A rejected client would not learn the reason: the result of an accepted goal has it.
        """
        reason = self._fault(handle.request)
        if reason:
            self.log.warn(f"goal failed: {reason}")
            self._dismiss(handle, reason)
        else:
            self._scheduler.add(handle, self.settings.policy)

    def _fault(self, goal: RefineDepth.Goal) -> str:
        """Return why a goal can't be refined, as far as it can be told before; empty if nothing is known."""
        if self.networks is None:
            return ""
        defaults = request_defaults(self.settings, self.networks.prior.light_conditioned)
        try:
            if goal.image.data:
                RefineRequest.from_goal(goal, None, defaults)
            else:
                GoalOptions.from_goal(goal, defaults)
        except RedepthError as error:
            return str(error)
        except Exception as error:  # rclpy would end the process
            return f"{type(error).__name__}: {error}"
        return ""

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        return CancelResponse.ACCEPT if self._scheduler.cancel(handle) else CancelResponse.REJECT

    def _start_job(self, job: Job[ServerGoalHandle]) -> None:
        """Give a goal to the model thread; the coroutine that ends it waits for the result."""
        assert self.networks is not None
        result = rclpy.task.Future(executor=self.executor)
        # A future without callbacks does not wake the executor when it is set.
        result.add_done_callback(lambda _: None)
        job.goal.execute(partial(self._end_job, job=job, result=result))
        # Submitted here, not in the coroutine, which has to wait for its turn: `stop` may come before it.
        self._work = self.model_thread.submit(self._refine, job, self.networks, result)

    def _dismiss_job(self, job: Job[ServerGoalHandle]) -> None:
        """End a goal that never started."""
        self._dismiss(job.goal, f"{job.stop_reason} before this goal began")

    def _dismiss(self, handle: ServerGoalHandle, reason: str) -> None:
        """End a goal without a depth."""
        done = rclpy.task.Future(executor=self.executor)
        done.set_result(self._pipeline.failure(reason))
        handle.execute(partial(self._end_job, job=Job(handle, reason), result=done))

    async def _end_job(
        self, handle: ServerGoalHandle, *, job: Job[ServerGoalHandle], result: rclpy.task.Future
    ) -> RefineDepth.Result:
        """Wait for the result of a goal without blocking, and give the goal its final state."""
        try:
            message = await result
            if handle.is_cancel_requested:
                handle.canceled()
            elif message.outcome == FAILED or job.stopped:
                handle.abort()
            else:
                handle.succeed()
        finally:  # after an error rclpy aborts the goal
            self._scheduler.finish(job)
        return message

    # The model thread.

    def _refine(self, job: Job[ServerGoalHandle], engine: Engine, result: rclpy.task.Future) -> None:
        handle = job.goal

        def send_feedback(feedback: RefineDepth.Feedback) -> None:
            if handle.is_active:
                handle.publish_feedback(feedback)

        try:
            message = self._pipeline.refine(job, handle.request, engine, self.settings, send_feedback)
        except Exception as error:
            result.set_exception(error)
        else:
            result.set_result(message)

    # Once a second.

    def tick(self) -> None:
        """End the goals that wait for nothing, and report."""
        for handle in list(self._server._goal_handles.values()):
            # rclpy accepts a goal and drops it if its client can't be told.
            if handle.status == GoalStatus.STATUS_ACCEPTED and not self._scheduler.has(handle):
                self._dismiss(handle, "its client could not be told that it is accepted")
        super().tick()

    def _goals_health(self) -> Health:
        values: dict[str, Any] = {
            **self._pipeline.counts,
            **self._topics.counts,
            "goals waiting": self._scheduler.waiting,
            "last outcome": self._pipeline.last_message,
            "prior": self.settings.prior,
            "threads": threading.active_count(),
        }
        message = "at work" if self._scheduler.busy else "waiting for goals"
        return Health(DiagnosticStatus.OK, message, values)


def main(arguments: list[str] | None = None) -> None:
    """Run the node."""
    spin([RefineServer], arguments)


if __name__ == "__main__":
    main()
