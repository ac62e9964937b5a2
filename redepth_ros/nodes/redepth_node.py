"""The executable `redepth_node`: camera images in, fast depth out."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import numpy as np
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CompressedImage, Image
from std_srvs.srv import Trigger

from redepth_ros.core.errors import RedepthError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.prompt_depth_anything import takes_prompt
from redepth_ros.nodes.depth_topics import DepthTopics
from redepth_ros.nodes.fast_pipeline import DepthFrame, FastPipeline, decode
from redepth_ros.nodes.guard import FailureCount, skip_bad_frames
from redepth_ros.nodes.metric_depth import MetricDepth
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.network_node import TEST_IMAGE, NetworkNode
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.nodes.stream_statistics import StreamStatistics
from redepth_ros.ros.msgs.anchor_image import anchors_to_msg
from redepth_ros.ros.msgs.camera_info import copy_camera_info
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.refine_depth import goal_to_msg, scale_to_msg
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.node.diagnostics import Health
from redepth_ros.ros.node.lifecycle import spin
from redepth_ros.ros.streams.anchor_input import AnchorInput
from redepth_ros.ros.streams.calibration_cache import CalibrationCache
from redepth_ros.ros.streams.frame_buffer import FrameBuffer
from redepth_ros.ros.streams.refine_client import RefineClient
from redepth_ros.ros.streams.silence_watch import SilenceWatch
from redepth_ros.ros.streams.stamp_check import StampCheck
from redepth_ros.ros.streams.subscription import CalibrationSubscription, NewestSubscription

__all__ = ["RedepthNode", "main"]

CAMERA_INFO_CACHE_SIZE = 60
MAX_FAILURES = 5
"""Frames in a row with unexpected errors after which the node gives up."""


class RedepthNode(NetworkNode[DepthSettings, DepthAnything]):
    """Publishes the depth of the newest image; see the README for topics and parameters.

    Callbacks run in the executor's thread and only store what arrives. `FastPipeline` processes images in the
    model thread and publishes depth in another one, so that services and diagnostics respond meanwhile.
    """

    def __init__(self) -> None:
        super().__init__("redepth_node", DepthSettings, "fast depth")
        self._publish_thread = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._pipeline: FastPipeline | None = None
        self._metric_depth: MetricDepth | None = None
        self._images: NewestSubscription | None = None
        self._anchors: AnchorInput | None = None
        self._camera_info: CalibrationSubscription | None = None
        self._camera_infos = CalibrationCache(
            CAMERA_INFO_CACHE_SIZE, self.resolve_topic_name("camera_info"), self.get_logger().info
        )
        self._frame_buffer = FrameBuffer(0)
        self._failures = {work: FailureCount(MAX_FAILURES, self.give_up) for work in ("process", "publish")}
        self._stamps = StampCheck()
        self._silence = SilenceWatch(self.log.warn)
        self._statistics = StreamStatistics()
        self._topics = DepthTopics(self, self._camera_infos, self._statistics, self.log.warn)
        self._refine = RefineClient(self, self.log.warn, self._lose_keyframe)
        self.add_health("stream", self._stream_health)
        self.add_health("scale", self._scale_health)
        self.create_service(GetFrame, "get_frame", self._get_frame)
        self.create_service(Trigger, "~/refine_now", self._refine_now)

    # Transitions.

    def model_names(self, settings: DepthSettings) -> str:
        runtime = "" if settings.runtime == "torch" else f" with runtime {settings.runtime}"
        return f"model {settings.model!r}{runtime}"

    def depth_network(self, networks: DepthAnything) -> DepthAnything:
        return networks

    def load(self, settings: DepthSettings) -> DepthAnything:
        network = load_depth_network(
            settings.model,
            device=settings.device,
            precision=settings.precision,
            report=self.report_progress,
        )
        network = network.with_runtime(settings.runtime, self.get_logger())
        # The first pass sets up kernels and memory, which the first frame should not wait for.
        network.predict(np.zeros((*TEST_IMAGE, 3), np.uint8), settings.input_size)
        return network

    def connect(self, networks: DepthAnything, settings: DepthSettings) -> None:
        """Make the pipeline and subscribe."""
        self._frame_buffer = FrameBuffer(settings.frame_buffer_size)
        if settings.anchors in ("depth", "points"):
            self._anchors = AnchorInput(
                self, settings.anchors, settings.anchor_tolerance, settings.anchor_fixed_frame
            )
        metric = networks.metric or (takes_prompt(networks) and self._anchors is not None)
        scale = MetricScale(settings, metric, self._anchors, self.log.warn, networks.scale_source)
        self._metric_depth = MetricDepth(scale)
        self._pipeline = FastPipeline(
            networks,
            self._metric_depth,
            settings,
            camera_infos=self._camera_infos,
            frame_buffer=self._frame_buffer,
            statistics=self._statistics,
            reserve=self._refine.reserve,
            needs_stddev=self._topics.needs_stddev,
            guard=self._guard,
            warn=self.log.warn,
        )
        self._camera_info = CalibrationSubscription(self, self._camera_infos.add)
        compressed = settings.transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._images = NewestSubscription(self, kind, topic, self._receive_image, settings.reliability)
        self.get_logger().info(f"depth is {scale.state(settings).unit}")

    def start(self) -> None:
        """Process images from now on."""
        assert self._pipeline is not None
        self._stamps.reset()
        for failures in self._failures.values():
            failures.reset()
        self._silence.reset()
        self._pipeline.start(self.model_thread, self._publish_thread, self._publish)
        self.active = True

    def begin_stop(self) -> Future[None] | None:
        """Process no more images; the one that is being processed is still published."""
        self.active = False
        return self._pipeline.begin_stop() if self._pipeline is not None else None

    def tear_down(self) -> None:
        """Release the network and unsubscribe."""
        for subscription in (self._images, self._camera_info, self._anchors):
            if subscription is not None:
                subscription.destroy()
        self._images = self._anchors = self._camera_info = None
        self._pipeline = self._metric_depth = None
        self._frame_buffer.clear()
        super().tear_down()

    def destroy_node(self) -> None:
        """Destroy the node, its client and its threads."""
        self._refine.destroy()
        self._publish_thread.shutdown(wait=True)
        super().destroy_node()

    def adopt(self, settings: DepthSettings) -> None:
        if self._pipeline is not None:
            self._pipeline.adopt(settings)

    # Messages and services, in the executor's thread.

    def _receive_image(self, message: Image | CompressedImage) -> None:
        """Store an image in the frame buffer and pass it to the pipeline."""
        if not self.active or self._pipeline is None:
            return
        self._statistics.received.add()
        self._silence.reset()
        fault = self._stamps.check(nanoseconds(message.header.stamp))
        if fault is not None:
            self.log.warn(fault.message)
            if fault.restarted:
                self._frame_buffer.clear()
                self._frame_buffer.add(message)
            return
        self._frame_buffer.add(message)
        self._pipeline.put(message)

    def _get_frame(self, request: GetFrame.Request, response: GetFrame.Response) -> GetFrame.Response:
        """Return a frame of the buffer by its stamp."""
        try:
            message, anchors = self._frame_buffer.find(request.stamp)
            if isinstance(message, CompressedImage):
                image = decode(message, self.settings.max_megapixels)
                message = image_to_msg(image, "rgb8", message.header)
        except RedepthError as error:
            response.message = str(error)
            return response
        response.success, response.image = True, message
        info = self._camera_infos.nearest(message.header.stamp, self.settings.camera_info_tolerance)
        if info is not None:
            response.camera_info = copy_camera_info(info, message.header)
        if anchors is not None:
            response.anchors = anchors_to_msg(anchors, message.header)
        scale = self._metric_depth.scale.scale if self._metric_depth is not None else None
        if scale is not None:
            scale_to_msg(scale, response)
        return response

    def _refine_now(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Make the next frame a keyframe."""
        if not self.active or self._pipeline is None:
            response.message = "the node is not active"
        elif self.settings.keyframes == "none":
            response.message = "the parameter keyframes is none: set it, for example to on_request"
        elif self._refine.busy:
            response.message = "the server is refining another keyframe"
        elif not self._refine.ready:
            server = self.resolve_service_name("refine")
            response.message = f"there is no action server {server}: start refine_server"
        else:
            self._pipeline.request_keyframe()
            response.success, response.message = True, "the next frame is a keyframe"
        return response

    # Publishing, in the publishing thread.

    def _publish(self, frame: DepthFrame) -> None:
        """Publish a depth frame, and send a keyframe to the server."""
        info = self._topics.publish(frame)
        if frame.reservation is None:
            return
        message = frame.message
        if isinstance(message, CompressedImage):
            message = image_to_msg(frame.image, "rgb8", message.header)
        # The default scale is left out: the server's own parameters apply.
        scale = frame.scale if frame.scale != Scale() else None
        frame.reservation.send(goal_to_msg(message, info, frame.anchors, scale))

    def _lose_keyframe(self) -> None:
        if self._pipeline is not None:
            self._pipeline.lose_keyframe()

    def _guard(self, work: str) -> AbstractContextManager[None]:
        return skip_bad_frames(self.log, self.context.ok, self._failures[work])

    # Once a second.

    def tick(self) -> None:
        """Adapt the subscriptions to their publishers, watch the server, and report."""
        anchors = self._anchors.subscription if self._anchors is not None else None
        for subscription in (self._images, self._camera_info, anchors):
            if subscription is not None:
                subscription.refresh()
        if self.active and self._images is not None:
            self._silence.check(self._images)
        self._refine.watch()
        super().tick()

    def _stream_health(self) -> Health:
        health = self._statistics.health(self._images.topic if self._images is not None else "image")
        keyframes = {
            "keyframes sent": self._refine.sent,
            "keyframes ended": self._refine.ended,
            "last keyframe": self._refine.last,
        }
        return Health(health.level, health.message, {**health.values, **keyframes})

    def _scale_health(self) -> Health:
        return self._metric_depth.health(self.settings) if self._metric_depth is not None else Health()


def main(arguments: list[str] | None = None) -> None:
    """Run the node."""
    spin([RedepthNode], arguments)


if __name__ == "__main__":
    main()
