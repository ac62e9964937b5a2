"""Transforms between frames by tf2, where it is installed (tf2_ros is not on PyPI)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from std_msgs.msg import Header

from redepth_ros.core.errors import AnchorError

__all__ = ["Transforms"]

TIMEOUT = Duration(seconds=0.05)
"""How long to wait for a transform with the newest stamps: its publisher may be a little late."""


class Transforms:
    """Transforms points between frames and stamps."""

    def __init__(self, node: Node, fixed_frame: str = "") -> None:
        """Args:
        node: owner of the subscriptions to tf.
        fixed_frame: a frame that does not move, such as odom; it compensates motion between two stamps.
            Empty assumes a static robot.
        """
        self._node, self._fixed_frame = node, fixed_frame
        try:
            import tf2_ros
        except ImportError:
            self._tf2: Any = None
            return
        self._tf2 = tf2_ros
        # With the node's clock, so that simulated time that jumps back clears the buffer.
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def apply(self, points: NDArray[np.float64], source: Header, target: Header) -> NDArray[np.float64]:
        """Transform points (N, 3), in metres, from one frame to another.

        Without a fixed frame, the transform at the stamp of the source is used; with one, points are
        transformed from the stamp of the source to the stamp of the target.

        Args:
            points: in the source's frame.
            source: their frame and stamp.
            target: the wanted frame and stamp.

        Raises:
            AnchorError: tf has no transform at that time, or tf2_ros is not installed.
        """
        moved = bool(self._fixed_frame) and source.stamp != target.stamp
        if source.frame_id == target.frame_id and not moved:
            return points
        if self._tf2 is None:
            raise AnchorError(
                f"anchors in the frame {source.frame_id!r} are needed in {target.frame_id!r}, and tf2_ros "
                "can't be imported: install ros-<distribution>-tf2-ros-py, or publish the cloud in the "
                "camera's optical frame (and, with anchor_fixed_frame, at the stamp of the image)"
            )
        try:
            try:
                found = self._look_up(source, target, moved, Duration()).transform
            except self._tf2.ExtrapolationException:  # other errors do not go away by waiting
                found = self._look_up(source, target, moved, TIMEOUT).transform
        except self._tf2.TransformException as error:
            raise AnchorError(
                f"no transform of the anchors from {source.frame_id!r} to {target.frame_id!r}: {error}"
            ) from error
        q, t = found.rotation, found.translation
        with np.errstate(all="ignore"):  # points that are not finite stay so
            return points @ rotation_matrix(q.x, q.y, q.z, q.w).T + np.array([t.x, t.y, t.z])  # (N, 3)

    def _look_up(self, source: Header, target: Header, moved: bool, timeout: Duration) -> Any:
        """Return tf2's transform from the source to the target."""
        source_time, target_time = Time.from_msg(source.stamp), Time.from_msg(target.stamp)
        if moved:
            return self._buffer.lookup_transform_full(
                target.frame_id, target_time, source.frame_id, source_time, self._fixed_frame, timeout
            )
        return self._buffer.lookup_transform(target.frame_id, source.frame_id, source_time, timeout)

    def destroy(self) -> None:
        """Unsubscribe from tf."""
        if self._tf2 is not None:
            self._listener.unregister()
            self._node.destroy_service(self._buffer.srv)
            if hasattr(self._buffer, "jump_handle"):  # from Jazzy on; rclpy would call it after its end
                self._buffer.jump_handle.unregister()


def rotation_matrix(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """Return the rotation matrix (3, 3) of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
