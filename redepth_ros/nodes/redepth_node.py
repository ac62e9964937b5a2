"""The executable `redepth_node`: camera images in, fast depth out."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Queue
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from rclpy.clock import Clock, ClockType
from rclpy.subscription import Subscription
from redepth_interfaces.action import RefineDepth
from redepth_interfaces.srv import GetFrame
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from std_srvs.srv import Trigger
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.errors import ConfigError, RedepthError
from redepth_ros.core.camera import pixel_rays, points_from_depth
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.stream.keyframes import Keyframes
from redepth_ros.core.stream.mailbox import Mailbox
from redepth_ros.core.stream.sliding_window import Meter
from redepth_ros.core.metric.scale import Scale, disparity_of
from redepth_ros.core.metric.uncertainty import depth_stddev
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.msgs.camera_info import copy_camera_info, intrinsics_of
from redepth_ros.ros.msgs.point_clouds import encode_cloud
from redepth_ros.viz.colormaps import colour_depth
from redepth_ros.ros.node.throttled_log import Complaints
from redepth_ros.ros.node.diagnostics import Diagnostics
from redepth_ros.ros.msgs.refine_depth import tell_scale
from redepth_ros.ros.streams.frame_buffer import HeldFrames
from redepth_ros.ros.msgs.images import decode_compressed, decode_image, encode_image
from redepth_ros.ros.node.lifecycle import ManagedNode, spin
from redepth_ros.ros.node.parameters import Parameters
from redepth_ros.ros.node.qos import CALIBRATION, OUTPUT
from redepth_ros.ros.streams.refine_client import RefineClient
from redepth_ros.ros.streams.message_cache import Stamped, nanoseconds
from redepth_ros.ros.streams.subscription import NewestSubscription

__all__ = ["RedepthNode", "main"]

MILLIMETRES_MOST = 65_535

INFO_PATIENCE = 0.02
"""Seconds that a frame's camera_info may come after its depth: drivers publish it last."""


@dataclass(frozen=True)
class _Frame:
    """An image message and when it came, on the monotonic clock."""

    message: Image | CompressedImage
    received: float


@dataclass(frozen=True)
class _Answer:
    """What was made of a frame; maps are (H, W), on the CPU."""

    frame: _Frame
    settings: DepthSettings
    image: NDArray[np.uint8]
    depth: Tensor
    stddev: Tensor | None
    """Made where it is wanted."""
    scale: Scale | None
    anchors: Anchors | None
    keyframe: bool


class RedepthNode(ManagedNode):
    """Answers the newest image with its depth; see the README for topics and parameters.

    Callbacks run on the executor's thread and only file what comes in. One thread runs the
    model and another publishes, so that services and diagnostics are answered meanwhile, and
    neither messages nor clouds hold up the model.
    """

    def __init__(self) -> None:
        super().__init__("redepth_node")
        self._declared = Parameters(
            self,
            DepthSettings,
            is_fixed=lambda: self._model is not None,
            remedy="deactivate and clean up the node, set it, then configure and activate",
            changed=self._adopt,
        )
        self._settings = DepthSettings()
        self._all_threads = torch.get_num_threads()
        self._model: DepthAnything | None = None
        self._mailbox: Mailbox[_Frame] | None = None
        # All of torch's parallel work happens in one thread: each thread that does some has a
        # pool of its own, and with more of them than cores OpenMP slows all of them down.
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._publish_thread = ThreadPoolExecutor(1, thread_name_prefix="publish")
        self._running: list[Future[None]] = []
        self._image_input: NewestSubscription | None = None
        self._info_input: Subscription | None = None
        self._metres: MetricScale | None = None
        self._infos: Stamped[CameraInfo] = Stamped(60)
        self._complaints = Complaints(self.get_logger())
        self._last_stamp = 0
        self._rays: tuple[Intrinsics, Tensor] | None = None

        self._held = HeldFrames(0)
        self._keyframes = self._keyframe_rule(self._settings)
        self._refine = RefineClient(self, self._complaints.add)

        self._received, self._published = Meter(), Meter()
        self._latency, self._model_time = Meter(), Meter()
        self._overwritten = 0

        self._depth = self.create_lifecycle_publisher(Image, "depth/image", OUTPUT)
        self._depth_info = self.create_lifecycle_publisher(CameraInfo, "depth/camera_info", OUTPUT)
        self._stddev = self.create_lifecycle_publisher(Image, "depth/stddev", OUTPUT)
        self._colour = self.create_lifecycle_publisher(Image, "depth/color", OUTPUT)
        self._points = self.create_lifecycle_publisher(PointCloud2, "depth/points", OUTPUT)
        self._diagnostics = Diagnostics(self, "fast depth")
        self.create_service(GetFrame, "get_frame", self._hand_out_frame)
        self.create_service(Trigger, "~/refine_now", self._refine_now)
        self.create_timer(1.0, self._tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # Transitions.

    def set_up(self) -> None:
        """Load the model and subscribe."""
        self._settings = settings = self._declared.settings()
        self._held = HeldFrames(settings.held_frames)
        started = time.monotonic()
        self.get_logger().info(f"loading model {settings.model!r} (a hub model is downloaded once)")
        self._model = self._model_thread.submit(self._load, settings).result()
        self._metres = MetricScale(self, settings, self._model.metric, self._complaints.add)
        self.get_logger().info(
            f"model {settings.model!r} ready on {self._model.device} as {self._model.dtype} "
            f"in {time.monotonic() - started:.1f} s; depth is {self._unit()}"
        )
        self._info_input = self.create_subscription(CameraInfo, "camera_info", self._infos.add, CALIBRATION)
        compressed = settings.transport == "compressed"
        kind, topic = (CompressedImage, "image/compressed") if compressed else (Image, "image")
        self._image_input = NewestSubscription(self, kind, topic, self._file_image, settings.reliability)

    def start(self) -> None:
        """Begin to answer images."""
        self._last_stamp = 0
        self._keyframes = self._keyframe_rule(self._settings)
        self._mailbox = Mailbox()
        answers: Queue[_Answer | None] = Queue(maxsize=1)
        self._running = [
            self._model_thread.submit(self._predict_all, self._mailbox, answers),
            self._publish_thread.submit(self._publish_all, answers),
        ]

    def stop(self) -> None:
        """Answer no more images; the one at work is finished."""
        if self._mailbox is not None:
            self._mailbox.close()
        for running in self._running:
            running.result()
        self._mailbox, self._running = None, []

    def tear_down(self) -> None:
        """Release the model and the subscriptions."""
        for one in (self._image_input, self._metres):
            if one is not None:
                one.destroy()
        if self._info_input is not None:
            self.destroy_subscription(self._info_input)
        self._image_input = self._info_input = self._metres = None
        self._model = self._rays = None
        self._held.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _adopt(self, settings: DepthSettings) -> None:
        if self._model is not None:
            self._model.input_size(480, 640, settings.input_size)  # raises for less than a patch
        rules = [self._rule_of(one) for one in (self._settings, settings)]
        self._settings = settings
        if rules[0] != rules[1]:
            self._keyframes = self._keyframe_rule(settings)

    @staticmethod
    def _rule_of(settings: DepthSettings) -> tuple[str, float, float, float]:
        spacing, motion = settings.keyframe_spacing, settings.keyframe_motion
        return settings.keyframes, settings.keyframe_interval, spacing, motion

    def _keyframe_rule(self, settings: DepthSettings) -> Keyframes:
        policy, interval, spacing, motion = self._rule_of(settings)
        return Keyframes(policy, interval=interval, spacing=spacing, motion=motion)

    def destroy_node(self) -> None:
        """Also the action client and the threads, which no lifecycle transition touches."""
        self._refine.destroy()
        for thread in (self._model_thread, self._publish_thread):
            thread.shutdown(wait=True)
        super().destroy_node()

    # The executor's thread: file what comes in.

    def _file_image(self, message: Image | CompressedImage) -> None:
        if self._mailbox is None:
            return
        self._received.add()
        stamp = nanoseconds(message.header.stamp)
        if stamp == 0:
            self._complaints.add(
                "image with a stamp of zero skipped: nothing can be matched to it; "
                "the camera's driver has to fill in header.stamp"
            )
            return
        if stamp == self._last_stamp:
            self._complaints.add(
                f"a second image of stamp {stamp / 1e9:.3f} s skipped: each needs a stamp of its own (a "
                "clock that stands still gives all the same, and so may several publishers on one topic)"
            )
            return
        went_back = stamp < self._last_stamp
        if went_back:
            self._complaints.add(
                f"image stamp went back from {self._last_stamp / 1e9:.3f} to {stamp / 1e9:.3f} s: "
                "this frame is skipped and the next ones are taken from there (a bag or a "
                "simulation that began again does this once; several publishers on one topic, always)"
            )
        self._last_stamp = stamp
        if went_back:
            self._held.clear()
        self._held.add(message)
        if not went_back and self._mailbox.put(_Frame(message, time.monotonic())):
            self._overwritten += 1

    def _hand_out_frame(self, request: GetFrame.Request, response: GetFrame.Response) -> GetFrame.Response:
        """A held frame by its stamp, for goals of other clients."""
        try:
            message, anchors = self._held.find(request.stamp)
            if isinstance(message, CompressedImage):
                picture = decode_compressed(message.data, self._settings.max_megapixels)
                message = encode_image(picture, "rgb8", message.header)
        except RedepthError as error:
            response.message = str(error)
            return response
        response.success, response.image = True, message
        tolerance = self._settings.camera_info_tolerance
        info = self._infos.wait_for_nearest(message.header.stamp, tolerance, 0.0)
        if info is not None:
            response.camera_info = info
        if anchors is not None:
            response.anchors = encode_image(anchors.image(), "32FC1", message.header)
        scale = self._metres.scale if self._metres is not None else None
        if scale is not None:
            tell_scale(scale, response)
        return response

    def _refine_now(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Make the next frame a keyframe."""
        if self._mailbox is None:
            response.message = "the node is not active"
        elif self._settings.keyframes == "none":
            response.message = "the parameter keyframes is none: set it, to on_request for one"
        elif not self._refine.ready:
            response.message = (
                "the server has a keyframe already" if self._refine.busy else
                f"there is no server of {self.resolve_service_name('refine')}: start refine_server"
            )  # fmt: skip
        else:
            self._keyframes.request()
            response.success, response.message = True, "the next frame is a keyframe"
        return response

    # The model's thread: depth of the newest image.

    def _load(self, settings: DepthSettings) -> DepthAnything:
        torch.set_num_threads(settings.threads or self._all_threads)
        model = DepthAnything.load(settings.model, device=settings.device, precision=settings.precision)
        # The first pass sets up kernels and memory: not on the first frame's time.
        model.predict(np.zeros((480, 640, 3), np.uint8), settings.input_size)
        return model

    def _predict_all(self, mailbox: Mailbox[_Frame], answers: Queue[_Answer | None]) -> None:
        while (frame := mailbox.take()) is not None:
            with self._guarded():
                answers.put(self._predict(frame))
        answers.put(None)

    @torch.inference_mode()
    def _predict(self, frame: _Frame) -> _Answer:
        model, metres, settings, message = self._model, self._metres, self._settings, frame.message
        assert model is not None  # this thread runs only between start and stop
        assert metres is not None
        if isinstance(message, CompressedImage):
            image = decode_compressed(message.data, settings.max_megapixels)
        else:
            image = decode_image(message, settings.max_megapixels)
        began = time.monotonic()
        predicted, signature = model.predict_with_signature(image, settings.input_size)  # (H, W), (C,)
        disparity = disparity_of(predicted, model.metric)
        intrinsics = self._known_intrinsics(message.header, *image.shape[:2])
        scale, anchors = metres.of(message.header, disparity, intrinsics, settings)
        if anchors is not None:
            self._held.add_anchors(message.header.stamp, anchors)
        depth, stddev = self._depth_of(disparity, scale, settings)
        self._model_time.add(time.monotonic() - began)
        seconds, keyframes = nanoseconds(message.header.stamp) * 1e-9, self._keyframes
        # Without a scale there is nothing that a map could take.
        keyframe = scale is not None and keyframes.is_due(seconds, signature) and self._refine.reserve()
        if keyframe:
            keyframes.take(seconds, signature)
        return _Answer(frame, settings, image, depth, stddev, scale, anchors, keyframe)

    def _depth_of(
        self, disparity: Tensor, scale: Scale | None, settings: DepthSettings
    ) -> tuple[Tensor, Tensor | None]:
        """Depth (H, W) and, where somebody wants it, its standard deviation."""
        assert self._metres is not None
        if scale is None:
            return torch.full(disparity.shape, torch.nan), None
        depth, stddev = scale.depth(disparity), None
        if settings.max_relative_stddev or self._stddev.get_subscription_count():
            stddev = depth_stddev(depth, disparity, scale, self._metres.misfit, settings.assumed_error)
        depth, stddev = settings.usable(depth, stddev)
        # To the CPU here: in the other thread it would wait for the next frame's kernels.
        return depth.cpu(), stddev if stddev is None else stddev.cpu()

    def _known_intrinsics(self, header: Header, height: int, width: int) -> Intrinsics | None:
        """Those of the last second, since a frame's own may come after it."""
        info = self._infos.wait_for_nearest(header.stamp, 1.0)
        try:
            return intrinsics_of(info, height, width) if info is not None else None
        except ConfigError:
            return None  # said where the frame's own calibration is published

    # The publishing thread: meanwhile the model is at the next image.

    def _publish_all(self, answers: Queue[_Answer | None]) -> None:
        torch.set_num_threads(1)  # of this thread, and of others that never said how many
        while (answer := answers.get()) is not None:
            with self._guarded():
                self._publish(answer)
            if answer.keyframe:
                self._refine.release_unsent()

    def _publish(self, answer: _Answer) -> None:
        message, depth = answer.frame.message, answer.depth
        header = message.header
        if answer.settings.depth_encoding == "16UC1":
            self._depth.publish(encode_image(_millimetres(depth), "16UC1", header))
        else:
            self._depth.publish(encode_image(depth.numpy(), "32FC1", header))
        self._published.add()
        self._latency.add(time.monotonic() - answer.frame.received)

        info, intrinsics = self._publish_info(answer)
        if answer.keyframe:
            if isinstance(message, CompressedImage):
                message = encode_image(answer.image, "rgb8", header)
            self._refine.send(self._goal_of(answer, message, info))
        if answer.stddev is not None and self._stddev.get_subscription_count():
            self._stddev.publish(encode_image(answer.stddev.numpy(), "32FC1", header))
        if self._colour.get_subscription_count():
            self._colour.publish(encode_image(colour_depth(depth.numpy()), "rgb8", header))
        if intrinsics is not None and self._points.get_subscription_count():
            points = points_from_depth(depth, self._rays_of(intrinsics))  # (3, H, W)
            self._points.publish(encode_cloud(points.numpy(), answer.image, header))

    @staticmethod
    def _goal_of(answer: _Answer, image: Image, info: CameraInfo | None) -> RefineDepth.Goal:
        """A keyframe as a goal, with all that is known of its metres."""
        goal = RefineDepth.Goal(image=image)
        if info is not None:
            goal.camera_info = info
        if answer.anchors is not None:
            goal.anchors = encode_image(answer.anchors.image(), "32FC1", image.header)
        if answer.scale is not None and answer.scale != Scale():  # else the server's own parameters
            tell_scale(answer.scale, goal)
        return goal

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """One bad frame must not end the stream: what goes wrong with it becomes a complaint."""
        try:
            yield
        except RedepthError as error:
            self._complaints.add(f"frame skipped: {error}")
        except torch.OutOfMemoryError as error:
            self._complaints.add(
                f"frame skipped: out of memory on {self._settings.device} ({error}); lower "
                "input_size or choose a smaller model",
                error=True,
            )
        except Exception:  # whatever it is, the next frame may be good
            if self.context.ok():  # else told to end in the middle of a frame
                self._complaints.add(f"frame skipped: {traceback.format_exc()}", error=True)

    def _publish_info(self, answer: _Answer) -> tuple[CameraInfo, Intrinsics] | tuple[None, None]:
        """Publish the image's calibration under its own header; None if there is none to use."""
        header, tolerance = answer.frame.message.header, answer.settings.camera_info_tolerance
        info = self._infos.wait_for_nearest(header.stamp, tolerance, INFO_PATIENCE)
        if info is None:
            self._complaints.add(
                f"no camera_info within {tolerance:g} s of an image: there is depth/image, but no "
                f"depth/camera_info and no depth/points; publish {self.resolve_topic_name('camera_info')} "
                "with each image's stamp, or raise camera_info_tolerance"
            )
            return None, None
        try:
            intrinsics = intrinsics_of(info, *answer.depth.shape)
        except ConfigError as error:
            self._complaints.add(f"camera_info is not used: {error}")
            return None, None
        copied = copy_camera_info(info, header)
        self._depth_info.publish(copied)
        return copied, intrinsics

    def _rays_of(self, intrinsics: Intrinsics) -> Tensor:
        if self._rays is None or self._rays[0] != intrinsics:
            self._rays = intrinsics, pixel_rays(intrinsics)
        return self._rays[1]

    # Once a second.

    def _tick(self) -> None:
        for one in (self._image_input, self._metres):
            if one is not None:
                one.refresh()
        self._refine.watch()
        self._report()

    def _unit(self) -> str:
        assert self._metres is not None
        return self._metres.unit(self._settings)

    def _report(self) -> None:
        values: dict[str, Any] = {
            "rate in (Hz)": f"{self._received.rate():.2f}",
            "rate out (Hz)": f"{self._published.rate():.2f}",
            "latency median (ms)": f"{self._latency.percentile(50) * 1e3:.2f}",
            "latency 95th percentile (ms)": f"{self._latency.percentile(95) * 1e3:.2f}",
            "model time median (ms)": f"{self._model_time.percentile(50) * 1e3:.2f}",
            "frames in": self._received.total,
            "frames out": self._published.total,
            "frames overwritten": self._overwritten,
            "keyframes sent": self._refine.sent,
            "keyframes ended": self._refine.ended,
            "last keyframe": self._refine.last,
            "complaints": self._complaints.total,
            "last error": self.failure or self._complaints.last or "none",
            "model": self._settings.model,
        }
        model = self._model
        if model is not None:
            values["precision"] = str(model.dtype).removeprefix("torch.")
            values["depth"] = self._unit()
            values |= self._metres.values() if self._metres else {}
        self._diagnostics.publish(*self._health(), values, model.device if model else None)

    def _health(self) -> tuple[bytes, str]:
        if self.failure:
            return DiagnosticStatus.ERROR, self.failure
        if self._model is None:
            return DiagnosticStatus.OK, "not configured"
        if self._mailbox is None:
            return DiagnosticStatus.OK, "inactive"
        if time.monotonic() - self._complaints.last_at < 5.0:
            return DiagnosticStatus.WARN, self._complaints.last
        if not self._received.rate() and self._image_input is not None:
            return DiagnosticStatus.WARN, f"no images on {self._image_input.topic}"
        if self._metres is not None and (trouble := self._metres.trouble):
            return DiagnosticStatus.WARN, trouble
        return DiagnosticStatus.OK, f"depth is {self._unit()}"


def _millimetres(depth: Tensor) -> NDArray[np.uint16]:
    """Metres as REP 118 has them in 16UC1: millimetres, 0 where invalid or out of range."""
    millimetres = (depth * 1000.0).round()
    fits = (millimetres >= 1) & (millimetres <= MILLIMETRES_MOST)
    return torch.where(fits, millimetres, 0.0).to(torch.int32).numpy().astype(np.uint16)


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    spin([RedepthNode], arguments)


if __name__ == "__main__":
    main()
