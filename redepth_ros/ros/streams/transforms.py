"""Transforms between frames, through tf2 where the system has it (it is not on PyPI)."""

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

PATIENCE = Duration(seconds=0.05)
"""How long a transform of the newest stamps may take to come: whoever publishes it may be a little late."""


class Transforms:
    """A node's view of tf."""

    def __init__(self, node: Node, fixed_frame: str = "") -> None:
        """Args:
        node: whose subscriptions they are.
        fixed_frame: frame that stands still, such as odom; with one, what moved between two stamps is
            made up for.
        """
        self._node, self._fixed_frame = node, fixed_frame
        try:
            import tf2_ros
        except ImportError:
            self._tf2: Any = None
            return
        self._tf2 = tf2_ros
        # With the node's clock, so that simulated time that jumps back clears it.
        self._buffer = tf2_ros.Buffer(node=node)
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def apply(self, points: NDArray[np.float64], source: Header, target: Header) -> NDArray[np.float64]:
        """Points (N, 3) as they lie in another frame.

        Without a fixed frame, at the time of the source's stamp; with one, carried from the source's
        stamp to the target's.

        Args:
            points: in the source's frame, metres.
            source: their frame and stamp.
            target: the frame wanted and its stamp.

        Raises:
            AnchorError: tf does not know the way at that time, or tf2_ros is not installed.
        """
        moved = bool(self._fixed_frame) and source.stamp != target.stamp
        if source.frame_id == target.frame_id and not moved:
            return points
        if self._tf2 is None:
            raise AnchorError(
                f"anchors in the frame {source.frame_id!r} are needed in {target.frame_id!r}, and tf2_ros "
                "can't be imported: install ros-<distribution>-tf2-ros-py, or publish the cloud in the "
                "camera's optical frame, at the image's stamp where anchor_fixed_frame is set"
            )

        def look_up(patience: Duration) -> Any:
            of_source, of_target = Time.from_msg(source.stamp), Time.from_msg(target.stamp)
            if moved:
                return self._buffer.lookup_transform_full(
                    target.frame_id, of_target, source.frame_id, of_source, self._fixed_frame, patience
                )
            return self._buffer.lookup_transform(target.frame_id, source.frame_id, of_source, patience)

        try:
            try:
                found = look_up(Duration()).transform
            except self._tf2.ExtrapolationException:  # that of a frame which nobody knows is not waited for
                found = look_up(PATIENCE).transform
        except self._tf2.TransformException as error:
            raise AnchorError(
                f"no transform of the anchors from {source.frame_id!r} to {target.frame_id!r}: {error}"
            ) from error
        turn, move = found.rotation, found.translation
        return points @ _rotation(turn.x, turn.y, turn.z, turn.w).T + np.array([move.x, move.y, move.z])

    def destroy(self) -> None:
        """End listening."""
        if self._tf2 is not None:
            self._listener.unregister()
            self._node.destroy_service(self._buffer.srv)
            if hasattr(self._buffer, "jump_handle"):  # from Jazzy on; rclpy would call it after its end
                self._buffer.jump_handle.unregister()


def _rotation(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """The matrix of a unit quaternion."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
