"""The executable `refine_server`: refines keyframes for whoever asks, one at a time."""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import rclpy.task
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.core.refine.result import Outcome, Refinement
from redepth_ros.core.refine.run import Run
from redepth_ros.models.engine import Engine
from redepth_ros.nodes.refined_topics import Keyframe, Maps, RefinedTopics
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import copy_camera_info, intrinsics_of
from redepth_ros.ros.node.throttled_log import Complaints
from redepth_ros.ros.node.diagnostics import Diagnostics
from redepth_ros.ros.msgs.refine_depth import anchors_of, duration_message, feedback_of, scale_of, seconds_of, settings_of
from redepth_ros.ros.msgs.images import decode_image, encode_image
from redepth_ros.ros.node.lifecycle import ManagedNode, spin
from redepth_ros.ros.node.parameters import Parameters
from redepth_ros.ros.node.qos import GOALS

__all__ = ["RefineServer", "main"]

RESULT_TIMEOUT = 30
"""Seconds that a result can still be asked for; until then its images take memory."""

FRAME_PATIENCE = 3.0
"""Seconds that the fast node may take to hand out a frame."""

FEEDBACK_PERIOD = 0.1
"""Seconds between two feedback messages, at least."""


@dataclass
class _Job:
    """A goal on its way."""

    handle: ServerGoalHandle
    ended: rclpy.task.Future
    """Set to the result by the refining thread."""
    stop: str = ""
    """Why it should end before its steps are done; empty if it should not."""
    stopped: bool = False
    """Whether it did."""
    began: float = field(default_factory=time.monotonic)


class RefineServer(ManagedNode):
    """Serves the action `refine`; see the README for topics and parameters.

    The executor's thread accepts, queues and cancels goals; one thread loads the networks,
    refines and publishes, so that a cancel takes effect within one optimisation step.
    """

    def __init__(self) -> None:
        super().__init__("refine_server")
        self._declared = Parameters(
            self,
            ServerSettings,
            is_fixed=lambda: self._engine is not None,
            remedy="deactivate and clean up the node, set it, then configure and activate",
            changed=self._adopt,
        )
        self._settings = ServerSettings()
        self._all_threads = torch.get_num_threads()
        self._engine: Engine | None = None
        self._active = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="refine")
        self._lock = threading.Lock()
        self._waiting: deque[ServerGoalHandle] = deque()
        self._job: _Job | None = None
        self._work: Future[None] | None = None
        self._complaints = Complaints(self.get_logger())
        self._counts = dict.fromkeys(("refined", "stopped early", "kept fast", "failed"), 0)
        self._last_message = "none"

        self._topics = RefinedTopics(self, self._complaints.add)
        self._diagnostics = Diagnostics(self, "refinement")
        self._frames = self.create_client(GetFrame, "get_frame")
        self._server = ActionServer(
            self,
            RefineDepth,
            "refine",
            execute_callback=self._execute,
            goal_callback=self._judge,
            handle_accepted_callback=self._accept,
            cancel_callback=self._cancel,
            goal_service_qos_profile=GOALS,
            result_service_qos_profile=GOALS,
            result_timeout=RESULT_TIMEOUT,
        )
        self.create_timer(1.0, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Transitions.

    def set_up(self) -> None:
        """Load the networks."""
        self._settings = settings = self._declared.settings()
        started = time.monotonic()
        self.get_logger().info(f"loading model {settings.model!r} and prior {settings.prior!r}")
        self._engine = self._thread.submit(self._load, settings).result()
        self.get_logger().info(
            f"model {settings.model!r} and prior {settings.prior!r} ready on {self._engine.model.device} as "
            f"{self._engine.model.dtype} in {time.monotonic() - started:.1f} s"
        )

    def start(self) -> None:
        """Begin to take goals."""
        self._topics.begin_anew()
        self._active = True

    def stop(self) -> None:
        """Take no more goals; the one at work ends with its best so far, those that wait end now."""
        self._active = False
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            if self._job is not None:
                self._job.stop = "the server was deactivated"
        for handle in waiting:
            handle.execute()
        if self._work is not None:
            self._work.result()

    def tear_down(self) -> None:
        """Release the networks."""
        self._engine = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def settled(self) -> bool:
        """Whether every goal has its final state."""
        with self._lock:
            return self._job is None and not self._waiting

    def destroy_node(self) -> None:
        """Also the action server, which no lifecycle transition touches."""
        self._server.destroy()
        self._thread.shutdown(wait=True)
        super().destroy_node()

    def _adopt(self, settings: ServerSettings) -> None:
        if self._engine is not None:
            self._engine.model.input_size(480, 640, settings.input_size)  # raises for less than a patch
        self._settings = settings

    def _load(self, settings: ServerSettings) -> Engine:
        torch.set_num_threads(settings.threads or self._all_threads)
        return Engine.load(
            settings.model, settings.prior, coder=settings.coder, captioner=settings.captioner,
            keep_captioner=settings.keep_captioner, device=settings.device, precision=settings.precision,
        )  # fmt: skip

    # The executor's thread: goals come, wait and are cancelled.

    def _judge(self, goal: RefineDepth.Goal) -> GoalResponse:
        if not self._active:
            self._complaints.add("goal rejected: the server is not active; configure and activate it")
            return GoalResponse.REJECT
        with self._lock:
            busy, waiting = self._job is not None or bool(self._waiting), len(self._waiting)
        policy = self._settings.policy
        if policy == "reject" and busy:
            self._complaints.add("goal rejected: another one is at work, and policy is reject")
            return GoalResponse.REJECT
        if policy == "queue" and waiting >= self._settings.queue_size:
            self._complaints.add(f"goal rejected: {waiting} goals wait already, as many as queue_size allows")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _accept(self, handle: ServerGoalHandle) -> None:
        """Begin with a goal, or let it wait for its turn."""
        displaced: list[ServerGoalHandle] = []
        with self._lock:
            if self._settings.policy == "latest":
                displaced = list(self._waiting)
                self._waiting.clear()
                if self._job is not None:
                    self._job.stop = "a newer goal took its place"
            self._waiting.append(handle)
        for old in displaced:
            old.execute()  # ends as aborted: it is neither waiting nor at work
        self._begin_next()

    def _begin_next(self) -> None:
        """Give the next goal to the refining thread, where that is free and there is one."""
        with self._lock:
            engine = self._engine
            if engine is None or self._job is not None or not self._waiting:
                return
            handle = self._waiting.popleft()
            job = self._job = _Job(handle, rclpy.task.Future(executor=self.executor))
            # A future without callbacks does not wake the executor when it is set.
            job.ended.add_done_callback(lambda _: None)
        handle.execute()
        # Not in the coroutine, which has to wait for its turn: `stop` may be called before that.
        self._work = self._thread.submit(self._refine, job, engine)

    def _cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        with self._lock:
            if self._job is not None and self._job.handle == handle:
                self._job.stop = "cancelled"
                return CancelResponse.ACCEPT
            if handle not in self._waiting:
                return CancelResponse.REJECT  # it ends as aborted already
            self._waiting.remove(handle)
        # Its end comes after the cancel was accepted: execute waits for the executor's next round.
        handle.execute()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> RefineDepth.Result:
        """Wait for the refining thread without blocking, and end the goal."""
        job = self._job
        if job is None or job.handle != handle:
            if handle.is_cancel_requested:
                handle.canceled()
                return self._failed("cancelled before it began")
            handle.abort()
            return self._failed("another goal took its place, or the server was deactivated, before it began")
        result = await job.ended
        with self._lock:
            self._job = None
        if handle.is_cancel_requested:
            handle.canceled()
        elif result.outcome == RefineDepth.Result.OUTCOME_FAILED or job.stopped:
            handle.abort()
        else:
            handle.succeed()
        self._begin_next()
        return result

    def _failed(self, message: str) -> RefineDepth.Result:
        self._counts["failed"] += 1
        self._last_message = message
        return RefineDepth.Result(outcome=RefineDepth.Result.OUTCOME_FAILED, message=message)

    # The refining thread.

    def _refine(self, job: _Job, engine: Engine) -> None:
        """Refine a goal's image; whatever happens, the goal gets a result."""
        result = RefineDepth.Result(outcome=RefineDepth.Result.OUTCOME_FAILED, message="the server failed")
        try:
            result = self._refine_image(job, engine)
        except RedepthError as error:
            result = self._failed(str(error))
            self._complaints.add(f"goal failed: {error}")
        except Exception as error:  # the next goal may be good
            result = self._failed(f"{type(error).__name__}: {error}; the server's log has the details")
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()
            if self.context.ok():  # else told to end in the middle of a goal
                self._complaints.add(f"goal failed: {traceback.format_exc()}", error=True)
        finally:
            result.elapsed = duration_message(time.monotonic() - job.began)
            job.ended.set_result(result)

    def _refine_image(self, job: _Job, engine: Engine) -> RefineDepth.Result:
        settings = self._settings
        goal = self._with_image(job)
        refinement = settings_of(
            goal, settings.refinement(knows_light=engine.prior.knows_light, preset=goal.preset)
        )
        message, info = goal.image, goal.camera_info
        picture = decode_image(message, settings.max_megapixels)
        height, width = picture.shape[:2]
        # Either may be missing: intrinsics_of takes P where there is one.
        camera = intrinsics_of(info, height, width) if info.k[0] or info.p[0] else None
        anchors = anchors_of(goal, message.header, height, width)
        run = engine.start(
            picture, refinement, intrinsics=camera, prompt=goal.prompt or settings.prompt,
            longer_side=settings.input_size, anchors=anchors, scale=scale_of(goal),
        )  # fmt: skip
        metric = engine.model.metric
        scale = scale_of(goal) or run.scale or settings.fixed_scale(metric)
        header = Header(
            stamp=message.header.stamp, frame_id=settings.refined_frame_id or message.header.frame_id
        )
        keyframe = Keyframe(header, picture, info, camera, scale, metric, settings)
        self._watch(job, run, keyframe)
        result = run.result()
        maps = keyframe.maps(result, refinement)
        self._topics.publish(keyframe, maps, seconds_of(goal.max_age) or settings.max_age)
        return self._result_of(result, job, keyframe, maps)

    def _watch(self, job: _Job, run: Run, keyframe: Keyframe) -> None:
        """Do the steps of a run, tell how far it is, and stop where the goal has to."""
        preview, told, shown = keyframe.settings.preview_period, 0.0, job.began
        for step in run.steps():
            now = time.monotonic()
            if now - told >= FEEDBACK_PERIOD:
                told = now
                feedback = feedback_of(step, now - job.began)
                if preview and now - shown >= preview:
                    shown = now
                    depth = keyframe.depth(run.result().refined)
                    feedback.depth = encode_image(depth.numpy(), "32FC1", keyframe.header)
                if job.handle.is_active:
                    job.handle.publish_feedback(feedback)
            if job.stop:
                job.stopped = True
                return

    def _with_image(self, job: _Job) -> RefineDepth.Goal:
        """A goal with its image; that of a stamp, and all that belongs to it, from the fast node."""
        goal: RefineDepth.Goal = job.handle.request
        if goal.image.data:
            return goal
        response = self._fetch(goal, job)
        if not response.success:
            raise ConfigError(response.message)
        goal.image, goal.camera_info = response.image, response.camera_info
        if not goal.anchors.data:
            goal.anchors = response.anchors
        if not goal.scale:
            goal.scale, goal.shift = response.scale, response.shift
            goal.scale_covariance = response.scale_covariance
        return goal

    def _fetch(self, goal: RefineDepth.Goal, job: _Job) -> GetFrame.Response:
        """What the fast node answers when it is asked for the frame of a goal's stamp.

        Raises:
            ConfigError: it is not there or does not answer in time, or the goal has to end.
        """
        stamp = f"{goal.stamp.sec}.{goal.stamp.nanosec:09d}"
        service = self.resolve_service_name("get_frame")
        answer: rclpy.task.Future | None = None
        end = time.monotonic() + FRAME_PATIENCE
        while not job.stop and time.monotonic() < end:
            if answer is None:
                if self._frames.service_is_ready():
                    answer = self._frames.call_async(GetFrame.Request(stamp=goal.stamp))
            elif answer.done():
                return answer.result()
            time.sleep(0.05)
        if answer is not None:
            self._frames.remove_pending_request(answer)
        if job.stop:
            raise ConfigError(f"the frame of stamp {stamp} had not come yet: {job.stop}")
        if answer is not None:
            raise ConfigError(f"{service} gave no frame of stamp {stamp} within {FRAME_PATIENCE:g} s")
        raise ConfigError(
            f"the goal has no image but the stamp {stamp}, and there is no service {service}: send the "
            "image, or start redepth_node in this namespace"
        )

    def _result_of(
        self, refined: Refinement, job: _Job, keyframe: Keyframe, maps: Maps
    ) -> RefineDepth.Result:
        header = keyframe.header
        result = RefineDepth.Result(outcome=int(refined.outcome), steps=refined.steps)
        result.message = refined.message + (f" ({job.stop})" if job.stopped else "")
        result.depth = encode_image(maps.depth.numpy(), "32FC1", header)
        result.fast_depth = encode_image(maps.fast.numpy(), "32FC1", header)
        result.stddev = encode_image(maps.stddev.numpy(), "32FC1", header)
        result.camera_info = copy_camera_info(keyframe.info, header)
        names = {
            Outcome.REFINED: "refined",
            Outcome.STOPPED_EARLY: "stopped early",
            Outcome.KEPT_FAST: "kept fast",
        }
        self._counts[names[refined.outcome]] += 1
        self._last_message = result.message
        return result

    # Once a second.

    def _report(self) -> None:
        with self._lock:
            busy, waiting = self._job is not None, len(self._waiting)
        level, message = DiagnosticStatus.OK, "at work" if busy else "waiting for goals"
        if self.failure:
            level, message = DiagnosticStatus.ERROR, self.failure
        elif not self._active:
            message = "inactive" if self._engine else "not configured"
        elif time.monotonic() - self._complaints.last_at < 5.0:
            level, message = DiagnosticStatus.WARN, self._complaints.last
        values: dict[str, Any] = {
            **self._counts,
            **self._topics.counts,
            "goals waiting": waiting,
            "last outcome": self._last_message,
            "last error": self.failure or self._complaints.last or "none",
            "model": self._settings.model,
            "prior": self._settings.prior,
            "threads": threading.active_count(),
        }
        self._diagnostics.publish(level, message, values, self._engine.model.device if self._engine else None)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    spin([RefineServer], arguments)


if __name__ == "__main__":
    main()
