"""The refined topics, and the keyframes that are published on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.camera import (
    limit_depth,
    normals_from_points,
    orthographic_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.metric.scale import Scale, disparity_of
from redepth_ros.models.engine import Engine
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import copy_camera_info
from redepth_ros.ros.msgs.point_clouds import encode_cloud
from redepth_ros.viz.colormaps import colour_depth
from redepth_ros.ros.msgs.images import encode_image
from redepth_ros.ros.node.qos import REFINED
from redepth_ros.ros.streams.message_cache import nanoseconds

__all__ = ["Keyframe", "Maps", "RefinedTopics"]


@dataclass(frozen=True)
class Maps:
    """What a refinement says at the image's size, in the unit that is published: (H, W)."""

    depth: Tensor
    stddev: Tensor
    fast: Tensor
    shape: Tensor
    """The refined depth in half picture heights, from which normals without a calibration follow."""


@dataclass(frozen=True)
class Keyframe:
    """An image that is refined, and what its maps are made by."""

    header: Header
    """Of all that is published of it."""
    picture: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    info: CameraInfo
    camera: Intrinsics | None
    """What the calibration says; None where there is none."""
    scale: Scale
    metric: bool
    """Whether the network is."""
    settings: ServerSettings

    def depth(self, output: Tensor) -> Tensor:
        """Depth (H, W) of a network's output (h, w), in the unit that is published, NaN where invalid."""
        depth = self.scale.depth(disparity_of(self._full_size(output), self.metric))
        return limit_depth(depth, self.settings.min_depth, self.settings.max_depth)

    def maps(self, result: Refinement, refinement: RefineSettings) -> Maps:
        """What a refinement by such settings says of it."""
        settings = self.settings
        refined, spread = self._full_size(result.refined), self._full_size(result.spread)
        if not spread.any():  # one member, or the fast depth
            spread = torch.full_like(refined, settings.assumed_error)
        elif not self.metric:
            # The spread is that of 1 / (disparity + m), and what is published has another shift.
            spread = spread * (refined + refinement.shift) / (refined + self.scale.shift)
        disparity = disparity_of(refined, self.metric)
        relative = (spread.square() + self.scale.variance_of_log_depth(disparity)).sqrt()
        depth = self.scale.depth(disparity)
        depth, stddev = settings.usable(depth, relative * depth)
        assert stddev is not None
        return Maps(depth, stddev, self.depth(result.fast), self._full_size(result.depth))

    def _full_size(self, values: Tensor) -> Tensor:
        return Engine.full_size(values, *self.picture.shape[:2])


class RefinedTopics:
    """Publishes keyframes under their own stamps, unless they are too old or out of order."""

    def __init__(self, node: LifecycleNode, complain: Callable[[str], None]) -> None:
        """Args:
        node: whose topics they are.
        complain: told why a keyframe is not published.
        """
        self._node, self._complain = node, complain
        self._last_stamp = 0
        self.counts = {"too old": 0, "not in order": 0}
        """Keyframes that were not published, by the reason."""
        self._image = node.create_lifecycle_publisher(Image, "refined/image", REFINED)
        self._depth = node.create_lifecycle_publisher(Image, "refined/depth", REFINED)
        self._info = node.create_lifecycle_publisher(CameraInfo, "refined/camera_info", REFINED)
        self._stddev = node.create_lifecycle_publisher(Image, "refined/stddev", REFINED)
        self._normals = node.create_lifecycle_publisher(Image, "refined/normals", REFINED)
        self._points = node.create_lifecycle_publisher(PointCloud2, "refined/points", REFINED)
        self._compared = node.create_lifecycle_publisher(Image, "refined/compared", REFINED)

    def begin_anew(self) -> None:
        """Take any stamp next, as at the start."""
        self._last_stamp = 0

    def publish(self, keyframe: Keyframe, maps: Maps, max_age: float) -> None:
        """Publish a keyframe's maps, those of the less common topics where somebody listens.

        Args:
            keyframe: the keyframe.
            maps: its maps.
            max_age: seconds that its stamp may lie back; 0 is any.
        """
        if not self._admit(nanoseconds(keyframe.header.stamp), max_age):
            return
        header, picture, camera, depth = keyframe.header, keyframe.picture, keyframe.camera, maps.depth
        self._image.publish(encode_image(picture, "rgb8", header))
        self._depth.publish(encode_image(depth.numpy(), "32FC1", header))
        if camera:  # zeros would be a calibration, to who takes all three
            self._info.publish(copy_camera_info(keyframe.info, header))
        if self._stddev.get_subscription_count():
            self._stddev.publish(encode_image(maps.stddev.numpy(), "32FC1", header))
        if self._normals.get_subscription_count():
            points = (
                points_from_depth(depth, pixel_rays(camera)) if camera else orthographic_points(maps.shape)
            )
            normals = normals_from_points(points).permute(1, 2, 0).contiguous()  # (H, W, 3)
            self._normals.publish(encode_image(normals.numpy(), "32FC3", header))
        if self._points.get_subscription_count() and camera:
            points = points_from_depth(depth, pixel_rays(camera))  # (3, H, W)
            self._points.publish(encode_cloud(points.numpy(), picture, header))
        if self._compared.get_subscription_count():
            halves = [colour_depth(one.numpy()) for one in (maps.fast, depth)]
            self._compared.publish(encode_image(np.concatenate([picture, *halves], axis=1), "rgb8", header))

    def _admit(self, stamp: int, max_age: float) -> bool:
        """Whether a keyframe of a stamp (nanoseconds) is published; it is the last one then."""
        now = self._node.get_clock().now().nanoseconds
        if now < self._last_stamp - 1_000_000_000:
            self._node.get_logger().warning("time went back: refined topics begin anew from there")
            self._last_stamp = 0
        if max_age and now - stamp > max_age * 1e9:
            self.counts["too old"] += 1
            self._complain(
                f"refined depth of {(now - stamp) / 1e9:.1f} s ago is not published: max_age is {max_age:g} "
                "s; lower steps or members, or raise max_age where the map takes older ones (a bag without "
                "use_sim_time is always too old)"
            )
            return False
        if stamp <= self._last_stamp:
            self.counts["not in order"] += 1
            self._complain(
                f"refined depth of stamp {stamp / 1e9:.3f} s is not published: a later one, "
                f"{self._last_stamp / 1e9:.3f} s, was; after a bag began again, deactivate and activate"
            )
            return False
        self._last_stamp = stamp
        return True
