"""The topics refined/*."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import DepthLimits
from redepth_ros.core.refine.result import Refinement
from redepth_ros.nodes.settings import ServerSettings
from redepth_ros.ros.msgs.camera_info import copy_camera_info
from redepth_ros.ros.msgs.compressed_depth import compressed_depth_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.point_clouds import points_to_msg
from redepth_ros.ros.msgs.refine_depth import RefineRequest
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.node.qos import REFINED
from redepth_ros.viz.colormaps import colorize_depth

__all__ = ["RefinedFrame", "RefinedTopics"]

CLOCK_JUMP = 1_000_000_000
"""Nanoseconds by which the last stamp must be ahead of the clock to count as one of another time."""
RESTART_LENGTH = 3
"""Refused frames in a row, each later than the one before, that count as a restart of the stamps."""


@dataclass(frozen=True)
class RefinedFrame:
    """A refined keyframe at the size of its image; maps are (H, W) on the CPU, NaN where invalid."""

    header: Header
    """Of everything that is published of it."""
    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    camera: PinholeCamera | None
    """None without a calibration."""
    camera_info: CameraInfo
    depth: Tensor
    stddev: Tensor
    """In the unit of the depth."""
    fast: Tensor
    """Depth before refinement."""
    unscaled_depth: Tensor
    """Half image heights (metres of a metric network): the geometry without a calibration."""

    @classmethod
    def from_refinement(
        cls, refinement: Refinement, request: RefineRequest, scale: Scale, settings: ServerSettings
    ) -> RefinedFrame:
        """Make the frame of a refinement.

        Args:
            refinement: at the size of the network's input.
            request: with the image.
            scale: relates the network's output to metres.
            settings: of the server.
        """
        full = refinement.at_size(*request.image.shape[:2])
        scaled = full.scaled(scale, settings.assumed_relative_stddev)
        depth, stddev = settings.limits.apply(scaled.depth, scaled.stddev)
        assert stddev is not None
        fast, _ = DepthLimits(settings.min_depth, settings.max_depth).apply(scaled.fast)
        header = Header(
            stamp=request.header.stamp, frame_id=settings.refined_frame_id or request.header.frame_id
        )
        return cls(
            header,
            request.image,
            request.camera,
            copy_camera_info(request.camera_info, header),
            depth,
            stddev,
            fast,
            full.depth,
        )

    def normals(self) -> Tensor:
        """Return the unit normals, (3, H, W), in the optical frame; they point towards the camera."""
        if self.camera is not None:
            return self.camera.normals(self.depth)
        return OrthographicCamera().normals(self.unscaled_depth)


class RefinedTopics:
    """Publishes refined frames under the stamps of their images, unless too old or out of order.

    Compressed depth, standard deviation, normals, points and the comparison are published only while they
    have subscribers.
    """

    def __init__(self, node: LifecycleNode, warn: Callable[[str], None]) -> None:
        """Args:
        node: owner of the topics.
        warn: called with the reason when a frame is not published.
        """
        self._node, self._warn = node, warn
        self.reset()
        self.counts = {"too old": 0, "not in order": 0}
        """Frames that were not published, by the reason."""
        self._image = node.create_lifecycle_publisher(Image, "refined/image", REFINED)
        self._depth = node.create_lifecycle_publisher(Image, "refined/depth", REFINED)
        self._compressed = node.create_lifecycle_publisher(
            CompressedImage, "refined/depth/compressedDepth", REFINED
        )
        self._camera_info = node.create_lifecycle_publisher(CameraInfo, "refined/camera_info", REFINED)
        self._stddev = node.create_lifecycle_publisher(Image, "refined/stddev", REFINED)
        self._normals = node.create_lifecycle_publisher(Image, "refined/normals", REFINED)
        self._points = node.create_lifecycle_publisher(PointCloud2, "refined/points", REFINED)
        self._compared = node.create_lifecycle_publisher(Image, "refined/compared", REFINED)

    def reset(self) -> None:
        """Accept any stamp next, as at the start."""
        self._last_stamp = 0
        self._refused: list[int] = []  # since the last stamp, as long as they rise

    def publish(self, frame: RefinedFrame, max_age: float) -> bool:
        """Publish a frame; return whether it was published.

        Args:
            frame: the frame.
            max_age: largest age of the frame by its stamp, seconds; 0 disables the limit.
        """
        if not self._accept(nanoseconds(frame.header.stamp), max_age):
            return False
        header, depth = frame.header, frame.depth
        self._image.publish(image_to_msg(frame.image, "rgb8", header))
        self._depth.publish(image_to_msg(depth.numpy(), "32FC1", header))
        if frame.camera is not None:  # subscribers would take zeros for a calibration
            self._camera_info.publish(frame.camera_info)
        if self._compressed.get_subscription_count():
            farthest = float(depth.nan_to_num(0.0).max())
            self._compressed.publish(compressed_depth_to_msg(depth.numpy(), header, max(farthest, 1.0)))
        if self._stddev.get_subscription_count():
            self._stddev.publish(image_to_msg(frame.stddev.numpy(), "32FC1", header))
        if self._normals.get_subscription_count():
            normals = frame.normals().permute(1, 2, 0).contiguous()  # (H, W, 3)
            self._normals.publish(image_to_msg(normals.numpy(), "32FC3", header))
        if frame.camera is not None and self._points.get_subscription_count():
            points = frame.camera.points(depth)  # (3, H, W)
            self._points.publish(points_to_msg(points.numpy(), frame.image, header))
        if self._compared.get_subscription_count():
            panels = [frame.image, colorize_depth(frame.fast.numpy()), colorize_depth(depth.numpy())]
            self._compared.publish(image_to_msg(np.concatenate(panels, axis=1), "rgb8", header))
        return True

    def _accept(self, stamp: int, max_age: float) -> bool:
        """Return whether a frame with a stamp (nanoseconds) is published, and record its stamp."""
        now = self._node.get_clock().now().nanoseconds
        age = (now - stamp) * 1e-9
        if max_age and age > max_age:
            self.counts["too old"] += 1
            self._warn(
                f"refined depth is not published: it is {age:.1f} s old, and max_age is {max_age:g} s; lower "
                "time_budget, or raise max_age if the map accepts older depth (with a bag, set "
                "use_sim_time: without it all frames are too old)"
            )
            return False
        if stamp <= self._last_stamp and not self._starts_anew(stamp, now):
            self.counts["not in order"] += 1
            self._warn(
                f"refined depth of stamp {stamp / 1e9:.3f} s is not published: stamp "
                f"{self._last_stamp / 1e9:.3f} s, which is not earlier, was published before; after a bag "
                f"restarts, the order starts anew with frame {RESTART_LENGTH}"
            )
            return False
        self._last_stamp, self._refused = stamp, []
        return True

    def _starts_anew(self, stamp: int, now: int) -> bool:
        """Return whether the last stamp was of another time than this one, which is not later."""
        rises = bool(self._refused) and stamp > self._refused[-1]
        self._refused = [*self._refused, stamp] if rises else [stamp]
        if now < self._last_stamp - CLOCK_JUMP:
            reason = "is ahead of the clock: the clock was set back, or the stamp was wrong"
        elif len(self._refused) >= RESTART_LENGTH:
            reason = f"is later than all of the last {RESTART_LENGTH}: a bag or a simulation has restarted"
        else:
            return False
        self._node.get_logger().warning(
            f"the order of the refined topics starts anew: the last stamp, {self._last_stamp / 1e9:.3f} s, "
            f"{reason}"
        )
        return True
