"""The demo's observer: rates, latencies, scenes and keyframes of the running nodes."""

from __future__ import annotations

import time
from collections import OrderedDict
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.cli.demo.records import NOT_FINISHED, Goal, Keyframe, Scene
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.stream.sliding_window import SlidingWindow
from redepth_ros.data.rendered import image_digest
from redepth_ros.ros.msgs.camera_info import camera_from_msg
from redepth_ros.ros.msgs.images import depth_from_msg, image_from_msg
from redepth_ros.ros.msgs.refine_depth import FINAL_STATES
from redepth_ros.ros.msgs.time import nanoseconds

__all__ = ["NAMESPACE", "Watcher"]

NAMESPACE = "/redepth_demo"
"""Of the demo's nodes."""

WHOLE_DEMO = 3600.0
"""Seconds of the statistics: longer than any demo."""

MAX_SCENES = 8
MAX_PARTS = 10
"""Frames and keyframes of which some messages have arrived, others not yet."""
MAX_FAST = 100
"""Images whose fast depth is stored until their refinement ends, which may take a minute."""

RETRY_PERIOD = 1.0
"""Seconds after which a service is called again that has not responded: DDS may lose a call or a response."""

FRAME_TOPICS = {"image": Image, "depth/image": Image, "depth/camera_info": CameraInfo}
REFINED_TOPICS = {"refined/image": Image, "refined/depth": Image, "refined/camera_info": CameraInfo}


Parts = OrderedDict[int, dict[str, Any]]
"""Messages by their stamp and name."""


class Watcher(Node):
    """Collects what the nodes publish: rates, latencies, scenes and the results of all goals."""

    def __init__(self, spacing: float) -> None:
        """Args:
        spacing: seconds between scenes, so that a long video is sampled from start to end.
        """
        super().__init__("watcher", namespace=NAMESPACE)
        self.images, self.latencies = SlidingWindow(WHOLE_DEMO), SlidingWindow(WHOLE_DEMO)
        self.latencies_alone: SlidingWindow | None = None
        """Latencies before the first keyframe; None until `begin_keyframes`."""
        self.scenes: list[Scene] = []
        self.goals: dict[bytes, Goal] = {}
        """All goals by their identifiers, in the order of their requests."""
        self.diagnostics: dict[str, str] = {}
        """Last diagnostics of redepth_node."""
        self.error = ""
        """Error that a node reports in its diagnostics."""
        self._spacing, self._next_scene = spacing, 0.0
        self._seen: set[str] = set()
        self.waits_for_keyframes = False
        """Whether the node has not responded yet to the request for keyframes."""
        self._awaited: set[bytes] = set()
        """Goals that ended, whose results have not arrived."""
        self._frames: Parts = OrderedDict()
        self._refined: Parts = OrderedDict()
        self._fast: OrderedDict[str, Image] = OrderedDict()
        """Fast depth by the digest of its image, which the footage may repeat many times meanwhile."""
        for topic, kind in FRAME_TOPICS.items():
            self.create_subscription(kind, topic, partial(self._on_frame, topic), 10)
        for topic, kind in REFINED_TOPICS.items():
            self.create_subscription(kind, topic, partial(self._on_refined, topic), 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        # An action's results go to the clients that ask for them, here as to the client of the node.
        self.create_subscription(
            GoalStatusArray, "refine/_action/status", self._on_status, qos_profile_action_status_default
        )
        self._results = self.create_client(RefineDepth.Impl.GetResultService, "refine/_action/get_result")
        self._parameters = self.create_client(SetParameters, "redepth_node/set_parameters")
        self.create_timer(RETRY_PERIOD, self._call_again, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def keyframes(self) -> list[Keyframe]:
        """The goals with a result and its image."""
        return [goal.keyframe for goal in self.goals.values() if goal.keyframe]

    def begin_keyframes(self) -> None:
        """Let the node send every frame as a keyframe, and start its latencies anew."""
        self.latencies_alone, self.latencies = self.latencies, SlidingWindow(WHOLE_DEMO)
        self.waits_for_keyframes = True
        self._request_keyframes()

    def _call_again(self) -> None:
        """Repeat the calls that have no response yet."""
        if self.waits_for_keyframes:
            self._request_keyframes()
        for identifier in self._awaited:
            self._request_result(identifier)

    def _request_keyframes(self) -> None:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="all")
        request = SetParameters.Request(parameters=[Parameter(name="keyframes", value=value)])
        self._parameters.call_async(request).add_done_callback(self._on_parameters)

    def _on_parameters(self, done: Any) -> None:
        self.waits_for_keyframes = False
        (result,) = done.result().results
        if not result.successful:
            self.error = f"redepth_node refuses keyframes: {result.reason}"

    def _on_frame(self, topic: str, message: Image | CameraInfo) -> None:
        """Store a message of a frame; the three of a frame arrive in any order."""
        stamp = nanoseconds(message.header.stamp)
        if topic == "image":
            self.images.add()
        elif topic == "depth/image":
            self.latencies.add(self._age(stamp))
        frame = _add_part(self._frames, stamp, topic, message)
        if len(frame) == len(FRAME_TOPICS):
            self._fast[image_digest(image_from_msg(frame["image"]))] = frame["depth/image"]
            if len(self._fast) > MAX_FAST:
                self._fast.popitem(last=False)
            self._keep_scene(frame)

    def _age(self, stamp: int) -> float:
        return float((self.get_clock().now().nanoseconds - stamp) * 1e-9)

    def _keep_scene(self, frame: dict[str, Any]) -> None:
        now = time.monotonic()
        if len(self.scenes) >= MAX_SCENES or now < self._next_scene:
            return
        scene = _make_scene(frame["image"], frame["depth/image"], frame["depth/camera_info"])
        if scene.key not in self._seen:
            self._seen.add(scene.key)
            self._next_scene = now + self._spacing
            self.scenes.append(scene)

    def _on_status(self, message: GoalStatusArray) -> None:
        """Ask for the results of goals that ended."""
        for status in message.status_list:
            identifier = bytes(status.goal_info.goal_id.uuid)
            self.goals.setdefault(identifier, Goal())
            finished = self.goals[identifier].outcome != NOT_FINISHED or identifier in self._awaited
            if status.status in FINAL_STATES and not finished:
                self._awaited.add(identifier)
                self._request_result(identifier)

    def _request_result(self, identifier: bytes) -> None:
        request = RefineDepth.Impl.GetResultService.Request()
        request.goal_id.uuid = list(identifier)
        self._results.call_async(request).add_done_callback(
            lambda done: self._on_result(identifier, done.result())
        )

    def _on_result(self, identifier: bytes, response: Any) -> None:
        self._awaited.discard(identifier)
        result, goal = response.result, self.goals.setdefault(identifier, Goal())
        if goal.outcome != NOT_FINISHED:  # the response to a call that was repeated
            return
        if response.status not in FINAL_STATES:  # the server keeps results for a while only
            goal.outcome = "result lost"
            return
        goal.message = result.message
        if result.outcome not in list(Outcome):
            goal.outcome = "failed"
            return
        goal.outcome = Outcome(result.outcome).label
        stamp = nanoseconds(result.depth.header.stamp)
        _add_part(self._refined, stamp, "age", self._age(stamp))
        _add_part(self._refined, stamp, "goal", goal)
        self._add_to_keyframe(stamp, "result", result)

    def _on_refined(self, topic: str, message: Image | CameraInfo) -> None:
        self._add_to_keyframe(nanoseconds(message.header.stamp), topic, message)

    def _add_to_keyframe(self, stamp: int, name: str, message: Any) -> None:
        """Store a part of a keyframe; topics and result arrive in any order.

        The result of a goal that names a stamp has no images: these come by the topics.
        """
        parts = _add_part(self._refined, stamp, name, message)
        if not {"result", *REFINED_TOPICS} <= set(parts):
            return
        fast = self._fast.get(image_digest(image_from_msg(parts["refined/image"])))
        if fast is not None:
            scene = _make_scene(parts["refined/image"], fast, parts["refined/camera_info"])
            goal, depth = parts["goal"], depth_from_msg(parts["refined/depth"])
            goal.keyframe = Keyframe(scene, depth, goal.outcome, goal.message, parts["age"])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.partition(":")[0].removeprefix(NAMESPACE.lstrip("/")).lstrip("/")
            if name not in ("redepth_node", "refine_server"):
                continue
            if name == "redepth_node":
                self.diagnostics.update({value.key: value.value for value in status.values})
            if status.level == DiagnosticStatus.ERROR:
                self.error = f"{name} {status.message}"


def _add_part(parts: Parts, stamp: int, name: str, part: Any) -> dict[str, Any]:
    """Store one part of the frame of a stamp; return all its parts. The oldest frames are dropped."""
    frame = parts.setdefault(stamp, {})
    frame[name] = part
    if len(parts) > MAX_PARTS:
        parts.popitem(last=False)
    return frame


def _make_scene(image: Image, depth: Image, info: CameraInfo) -> Scene:
    camera = camera_from_msg(info, depth.height, depth.width)
    return Scene(image_from_msg(image), depth_from_msg(depth), camera)
