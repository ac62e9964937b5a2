"""The fast stream: from the newest image to its depth, in two threads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import Queue

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale, disparity_from_output
from redepth_ros.core.stream.mailbox import Mailbox
from redepth_ros.core.validity import output_problem
from redepth_ros.models.depth_anything import DepthAnything, Prediction
from redepth_ros.models.prompt_depth_anything import takes_prompt, with_prompt
from redepth_ros.nodes.metric_depth import MetricDepth, MetricEstimate
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.nodes.stream_statistics import StreamStatistics
from redepth_ros.nodes.validity import depth_problem
from redepth_ros.ros.msgs.camera_info import camera_from_msg
from redepth_ros.ros.msgs.images import image_from_compressed_msg, image_from_msg
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.streams.calibration_cache import CalibrationCache
from redepth_ros.ros.streams.frame_buffer import FrameBuffer
from redepth_ros.ros.streams.refine_client import Reservation

__all__ = ["DepthFrame", "FastPipeline", "Frame", "decode"]

CAMERA_TOLERANCE = 1.0
"""Largest age, seconds, of the camera_info that anchors are projected with: a frame's own may come later."""


@dataclass(frozen=True)
class Frame:
    """An image message and the time of its arrival."""

    message: Image | CompressedImage
    received_at: float
    """Seconds on the monotonic clock."""


@dataclass(frozen=True)
class DepthFrame:
    """A processed frame; maps are (H, W) on the CPU."""

    message: Image | CompressedImage
    received_at: float
    settings: DepthSettings
    """The parameters that the frame was processed with."""
    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    depth: Tensor
    """NaN where invalid."""
    stddev: Tensor | None
    """In the unit of the depth; None if nothing needs it."""
    scale: Scale | None
    anchors: Anchors | None
    reservation: Reservation | None
    """The place of the keyframe at the server; None if the frame is not a keyframe."""


class FastPipeline:
    """Runs the network on the newest image.

    The executor's thread puts images into a mailbox with one slot; an image that was not taken yet is
    replaced and counted. The model thread takes them, and hands each depth frame to the publishing thread,
    which publishes it while the network processes the next image. Between the two there is room for one
    frame, so that nothing queues up.
    """

    def __init__(
        self,
        network: DepthAnything,
        metric_depth: MetricDepth,
        settings: DepthSettings,
        *,
        camera_infos: CalibrationCache,
        frame_buffer: FrameBuffer,
        statistics: StreamStatistics,
        reserve: Callable[[], Reservation | None],
        needs_stddev: Callable[[], bool],
        guard: Callable[[str], AbstractContextManager[None]],
        warn: Callable[[str], None],
    ) -> None:
        """Args:
        network, metric_depth: make depth of an image.
        settings: of the node, see `adopt`.
        camera_infos: messages of the camera.
        frame_buffer: receives the anchors of frames.
        statistics: of the stream.
        reserve: reserves the place of a keyframe at the server; None if there is none.
        needs_stddev: whether the standard deviation has subscribers.
        guard: returns the context that turns an error of one frame into a log message, for "process" or
            "publish".
        warn: called with a message if the depth is invalid.
        """
        self._network, self._metric_depth, self._settings = network, metric_depth, settings
        self._camera_infos, self._frame_buffer = camera_infos, frame_buffer
        self._statistics, self._reserve = statistics, reserve
        self._needs_stddev, self._guard, self._warn = needs_stddev, guard, warn
        self._needs_prompt = takes_prompt(network) and metric_depth.scale.has_anchors
        self._keyframes = settings.keyframe_selector()
        self._mailbox: Mailbox[Frame] = Mailbox()
        self._running: Future[None] | None = None

    def adopt(self, settings: DepthSettings) -> None:
        """Take new parameters; a frame that is being processed keeps the old ones."""
        if not settings.same_keyframes(self._settings):
            self._keyframes = settings.keyframe_selector()
        self._settings = settings

    def request_keyframe(self) -> None:
        """Make the next possible frame a keyframe."""
        self._keyframes.request()

    def lose_keyframe(self) -> None:
        """Replace the last keyframe, which was not refined, by a later frame."""
        self._keyframes.lose()

    def start(
        self, model_thread: Executor, publish_thread: Executor, publish: Callable[[DepthFrame], None]
    ) -> None:
        """Process images from now on.

        Args:
            model_thread, publish_thread: with one thread each.
            publish: called with each depth frame in the publishing thread.
        """
        self._keyframes = self._settings.keyframe_selector()
        self._mailbox = Mailbox()
        frames: Queue[DepthFrame | None] = Queue(maxsize=1)
        model_thread.submit(self._process_all, self._mailbox, frames)
        self._running = publish_thread.submit(self._publish_all, frames, publish)

    def begin_stop(self) -> Future[None] | None:
        """Process no more images; the frame that is being processed is still published.

        Returns:
            The work of the publishing thread, which ends last; None before `start`.
        """
        self._mailbox.close()
        return self._running

    def stop(self) -> None:
        """Process no more images, and wait until the last frame is published."""
        running = self.begin_stop()
        if running is not None:
            running.result()

    def put(self, message: Image | CompressedImage) -> None:
        """Pass an image to the model thread."""
        if self._mailbox.put(Frame(message, time.monotonic())):
            self._statistics.overwritten += 1

    def _process_all(self, mailbox: Mailbox[Frame], frames: Queue[DepthFrame | None]) -> None:
        try:
            while (frame := mailbox.take()) is not None:
                with self._guard("process"):
                    depth = self.process(frame)
                    if depth is not None:
                        frames.put(depth)
        finally:  # the publishing thread waits for it
            frames.put(None)

    def _publish_all(self, frames: Queue[DepthFrame | None], publish: Callable[[DepthFrame], None]) -> None:
        torch.set_num_threads(1)  # of this thread: the cores belong to the model
        while (frame := frames.get()) is not None:
            with self._guard("publish"):
                try:
                    publish(frame)
                finally:
                    if frame.reservation is not None:
                        frame.reservation.release()  # unless the keyframe was sent

    @torch.inference_mode()
    def process(self, frame: Frame) -> DepthFrame | None:
        """Return the depth of a frame; None if the network needs a prompt, and the frame has no anchors.

        Raises:
            ImageError: the image can't be decoded.
            AnchorError: the anchors are no prompt.
        """
        settings, header = self._settings, frame.message.header
        image = decode(frame.message, settings.max_megapixels)  # (H, W, 3)
        started_at = time.monotonic()
        network, prompt = self._network, None
        if self._needs_prompt:
            height, width = image.shape[:2]
            camera = self._camera(header, height, width)
            prompt = self._metric_depth.scale.take_anchors(header, height, width, camera)
            if prompt is None:
                self._statistics.unprompted += 1
                return None
            network = with_prompt(network, prompt)
        prediction = network.predict_frame(image, settings.input_size)
        class_token = prediction.class_token
        disparity = disparity_from_output(prediction.output, network.metric)  # (H, W)
        estimate = self._estimate(header, image, prediction, disparity, prompt)
        if estimate.anchors is not None:
            self._frame_buffer.add_anchors(header.stamp, estimate.anchors)
        depth, stddev = settings.limits.apply(estimate.depth, estimate.stddev)  # (H, W) each
        if estimate.valid and (problem := depth_problem(depth, stddev, settings)):
            self._warn(problem)
        self._statistics.model_time.add(time.monotonic() - started_at)
        # Without a scale a map has no use for a keyframe; a class token that is not finite would be compared
        # with all later ones.
        reservation = None
        if estimate.scale is not None and bool(torch.isfinite(class_token).all()):
            reservation = self._reserve_keyframe(header, class_token)
        return DepthFrame(
            message=frame.message,
            received_at=frame.received_at,
            settings=settings,
            image=image,
            depth=depth,
            stddev=stddev,
            scale=estimate.scale,
            anchors=estimate.anchors,
            reservation=reservation,
        )

    def _estimate(
        self,
        header: Header,
        image: NDArray[np.uint8],
        prediction: Prediction,
        disparity: Tensor,
        prompt: Anchors | None,
    ) -> MetricEstimate:
        """Return metric depth (H, W) of a frame; NaN if the network failed, or its prompt is refused."""
        settings, invalid = self._settings, torch.full(disparity.shape, torch.nan)
        if problem := output_problem(prediction.output, self._network.dtype):
            self._warn(problem)
            if not bool(torch.isfinite(prediction.output).any()):
                return MetricEstimate(invalid, None, None, None)
        camera = self._camera(header, *image.shape[:2])
        needs_stddev = bool(settings.max_relative_stddev) or self._needs_stddev()
        known = prediction.known_scale(camera)
        estimate = self._metric_depth.estimate(
            header, disparity, image, camera, settings, needs_stddev, known, prompt
        )
        if prompt is not None and estimate.anchors is None:
            self._warn("the anchors are refused, and the depth with them: they are its prompt")
            return MetricEstimate(invalid, None, None, None)
        return estimate

    def _reserve_keyframe(self, header: Header, class_token: Tensor) -> Reservation | None:
        """Return a reservation if the frame is a keyframe."""
        seconds, keyframes = nanoseconds(header.stamp) * 1e-9, self._keyframes
        if not keyframes.is_due(seconds, class_token):
            return None
        reservation = self._reserve()
        if reservation is not None:
            keyframes.accept(seconds, class_token)
        return reservation

    def _camera(self, header: Header, height: int, width: int) -> PinholeCamera | None:
        """Return the camera by the calibration nearest in time; None without a usable one."""
        info = self._camera_infos.nearest(header.stamp, CAMERA_TOLERANCE)
        try:
            return camera_from_msg(info, height, width) if info is not None else None
        except ConfigError:
            return None  # reported where the frame's own calibration is published


def decode(message: Image | CompressedImage, max_megapixels: float) -> NDArray[np.uint8]:
    """Return the image of a message, (H, W, 3) RGB.

    Raises:
        ImageError: the image can't be decoded or is too large.
    """
    if isinstance(message, CompressedImage):
        return image_from_compressed_msg(message.data, max_megapixels)
    return image_from_msg(message, max_megapixels)
