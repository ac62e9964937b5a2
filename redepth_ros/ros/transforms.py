"""Transforms between frames, through tf2 where the system has it (it is not on PyPI)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node

from redepth_ros.core.errors import AnchorError

__all__ = ["Transforms"]


class Transforms:
    """A node's view of tf."""

    def __init__(self, node: Node) -> None:
        try:
            import tf2_ros
        except ImportError:
            self._tf2: Any = None
            return
        self._tf2 = tf2_ros
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def apply(self, points: NDArray[np.float64], source: str, target: str, stamp: Any) -> NDArray[np.float64]:
        """Points (N, 3) of one frame in another, at the time of a stamp.

        Raises:
            AnchorError: tf does not know the way, or tf2_ros is not installed.
        """
        if source == target:
            return points
        if self._tf2 is None:
            raise AnchorError(
                f"anchors in the frame {source!r} are needed in {target!r}, and tf2_ros can't be imported: "
                "install ros-<distribution>-tf2-ros-py, or publish the cloud in the camera's optical frame"
            )
        from rclpy.time import Time

        try:
            found = self._buffer.lookup_transform(target, source, Time.from_msg(stamp)).transform
        except self._tf2.TransformException as error:
            raise AnchorError(
                f"no transform of the anchors from {source!r} to {target!r}: {error}"
            ) from error
        turn, move = found.rotation, found.translation
        return points @ _rotation(turn.x, turn.y, turn.z, turn.w).T + np.array([move.x, move.y, move.z])

    def destroy(self) -> None:
        """End listening."""
        if self._tf2 is not None:
            self._listener.unregister()


def _rotation(x: float, y: float, z: float, w: float) -> NDArray[np.float64]:
    """The matrix of a unit quaternion."""
    return np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
