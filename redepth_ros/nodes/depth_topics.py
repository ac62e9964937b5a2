"""The topics depth/*."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.nodes.fast_pipeline import DepthFrame
from redepth_ros.nodes.stream_statistics import StreamStatistics
from redepth_ros.ros.msgs.camera_info import camera_from_msg, copy_camera_info
from redepth_ros.ros.msgs.compressed_depth import compressed_depth_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.point_clouds import points_to_msg
from redepth_ros.ros.node.qos import OUTPUT
from redepth_ros.ros.streams.calibration_cache import CalibrationCache
from redepth_ros.viz.colormaps import colorize_depth

__all__ = ["DepthTopics", "millimetres"]

MAX_MILLIMETRES = 65_535

CAMERA_INFO_TIMEOUT = 0.02
"""Seconds by which a frame's camera_info may arrive after its depth is ready: drivers publish it last."""


class DepthTopics:
    """Publishes depth frames.

    Compressed depth, colours, points and standard deviation are published only while they have subscribers.
    """

    def __init__(
        self,
        node: LifecycleNode,
        camera_infos: CalibrationCache,
        statistics: StreamStatistics,
        warn: Callable[[str], None],
    ) -> None:
        """Args:
        node: owner of the topics.
        camera_infos: messages of the camera.
        statistics: of the stream.
        warn: called with a message if there is no usable calibration.
        """
        self._camera_infos, self._statistics, self._warn = camera_infos, statistics, warn
        self._depth = node.create_lifecycle_publisher(Image, "depth/image", OUTPUT)
        self._compressed = node.create_lifecycle_publisher(
            CompressedImage, "depth/image/compressedDepth", OUTPUT
        )
        self._camera_info = node.create_lifecycle_publisher(CameraInfo, "depth/camera_info", OUTPUT)
        self._stddev = node.create_lifecycle_publisher(Image, "depth/stddev", OUTPUT)
        self._color = node.create_lifecycle_publisher(Image, "depth/color", OUTPUT)
        self._points = node.create_lifecycle_publisher(PointCloud2, "depth/points", OUTPUT)

    def needs_stddev(self) -> bool:
        """Return whether the standard deviation has subscribers."""
        return self._stddev.get_subscription_count() > 0

    def publish(self, frame: DepthFrame) -> CameraInfo | None:
        """Publish a frame.

        Returns:
            The frame's calibration under the image's header; None without a usable one.
        """
        header, depth = frame.message.header, frame.depth
        encoding = frame.settings.depth_encoding
        stored = millimetres(depth) if encoding == "16UC1" else depth.numpy()
        self._depth.publish(image_to_msg(stored, encoding, header))
        self._statistics.published.add()
        self._statistics.latency.add(time.monotonic() - frame.received_at)
        info, camera = self._calibration(frame)
        if info is not None:
            self._camera_info.publish(info)
        if self._compressed.get_subscription_count():
            self._compressed.publish(compressed_depth_to_msg(stored, header, frame.settings.max_depth))
        if frame.stddev is not None and self.needs_stddev():
            self._stddev.publish(image_to_msg(frame.stddev.numpy(), "32FC1", header))
        if self._color.get_subscription_count():
            self._color.publish(image_to_msg(colorize_depth(depth.numpy()), "rgb8", header))
        if camera is not None and self._points.get_subscription_count():
            points = camera.points(depth)  # (3, H, W)
            self._points.publish(points_to_msg(points.numpy(), frame.image, header))
        return info

    def _calibration(self, frame: DepthFrame) -> tuple[CameraInfo, PinholeCamera] | tuple[None, None]:
        """Return the calibration of a frame, as a message under its header and as a camera."""
        header, tolerance = frame.message.header, frame.settings.camera_info_tolerance
        info = self._camera_infos.nearest(header.stamp, tolerance, CAMERA_INFO_TIMEOUT)
        if info is None:
            reason = self._camera_infos.mismatch(header.stamp, tolerance)
            self._warn(
                "no camera_info for an image, thus neither depth/camera_info nor depth/points: " + reason
            )
            return None, None
        try:
            camera = camera_from_msg(info, *frame.depth.shape)
        except ConfigError as error:
            self._warn(f"camera_info is not used: {error}")
            return None, None
        return copy_camera_info(info, header), camera


def millimetres(depth: Tensor) -> NDArray[np.uint16]:
    """Convert metres to millimetres as REP 118 defines 16UC1: 0 where invalid or out of range."""
    values = (depth * 1000.0).round()
    valid = (values >= 1) & (values <= MAX_MILLIMETRES)
    return torch.where(valid, values, 0.0).to(torch.int32).numpy().astype(np.uint16)
