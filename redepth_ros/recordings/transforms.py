"""A buffer of transforms between frames, as tf2 has, filled from a recording."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import AnchorError

__all__ = ["TransformBuffer", "invert", "matrix_from_quaternion", "transform_points"]

Matrix = NDArray[np.float64]


def matrix_from_quaternion(x: float, y: float, z: float, w: float) -> Matrix:
    """Return the rotation matrix (3, 3) of a quaternion, which is normalised first.

    Raises:
        ValueError: all four are 0.
    """
    norm = (x * x + y * y + z * z + w * w) ** 0.5
    if not norm > 0.0:
        raise ValueError("a quaternion of zeros is no rotation")
    x, y, z, w = x / norm, y / norm, z / norm, w / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def invert(matrix: Matrix) -> Matrix:
    """Return the inverse of a rigid transform (4, 4)."""
    inverse = np.eye(4)
    inverse[:3, :3] = matrix[:3, :3].T
    inverse[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return inverse


def transform_points(matrix: Matrix, points: Matrix) -> Matrix:
    """Apply a transform (4, 4) to points (N, 3); those that are not finite stay so."""
    with np.errstate(all="ignore"):
        return np.asarray(points @ matrix[:3, :3].T + matrix[:3, 3])


@dataclass
class _Edge:
    """Transforms of a frame to its parent, sorted by time."""

    parent: str
    static: bool
    times: list[int] = field(default_factory=list)
    values: list[tuple[Matrix, Matrix]] = field(default_factory=list)
    """Translation (3,) and quaternion (4,), x y z w, of unit length."""


class TransformBuffer:
    """Stores transforms and answers for the transform between two frames at a time.

    Dynamic transforms are interpolated, never extrapolated. Times are nanoseconds.
    """

    def __init__(self, keep: float = 60.0) -> None:
        """Args:
        keep: seconds of history.
        """
        self._edges: dict[str, _Edge] = {}
        self._keep = round(keep * 1e9)

    def __bool__(self) -> bool:
        return bool(self._edges)

    @property
    def frames(self) -> set[str]:
        """All frames."""
        return set(self._edges) | {edge.parent for edge in self._edges.values()}

    def add(
        self,
        parent: str,
        child: str,
        time: int,
        translation: tuple[float, float, float],
        quaternion: tuple[float, float, float, float],
        *,
        static: bool = False,
    ) -> None:
        """Store the transform from the child's frame to the parent's.

        One without a rotation, or whose numbers are not finite, is dropped.
        """
        parent, child = parent.lstrip("/"), child.lstrip("/")
        norm = math.hypot(*quaternion)
        if not 0.0 < norm < math.inf or not all(map(math.isfinite, translation)) or parent == child:
            return
        value = (np.array(translation, np.float64), np.array(quaternion, np.float64) / norm)
        edge = self._edges.get(child)
        if edge is None or edge.parent != parent or edge.static != static:
            edge = self._edges[child] = _Edge(parent, static)
        if static:
            edge.times, edge.values = [time], [value]
            return
        at = len(edge.times) if not edge.times or time > edge.times[-1] else bisect_left(edge.times, time)
        if at < len(edge.times) and edge.times[at] == time:
            edge.values[at] = value
            return
        edge.times.insert(at, time)
        edge.values.insert(at, value)
        if edge.times[-1] - edge.times[0] > 2 * self._keep:
            first = bisect_left(edge.times, edge.times[-1] - self._keep)
            del edge.times[:first], edge.values[:first]

    def lookup(self, target: str, source: str, time: int) -> Matrix:
        """Return the (4, 4) transform of points in the source's frame to the target's.

        Raises:
            AnchorError: a frame is unknown, the frames are not connected, or the time is outside of the
                recorded transforms.
        """
        target, source = target.lstrip("/"), source.lstrip("/")
        if target == source:
            return np.eye(4)
        up_source, up_target = self._chain(source), self._chain(target)
        common = next((frame for frame in up_source if frame in up_target), None)
        if common is None:
            known = ", ".join(sorted(self.frames)[:12]) or "none"
            raise AnchorError(
                f"the recording's tf does not connect {source!r} and {target!r}; it has the frames: {known}"
            )
        to_common = self._multiply(up_source[: up_source.index(common)], time)
        from_target = self._multiply(up_target[: up_target.index(common)], time)
        return invert(from_target) @ to_common

    def lookup_full(self, target: str, target_time: int, source: str, source_time: int, fixed: str) -> Matrix:
        """Return the transform from the source at one time to the target at another, through a fixed "
        "frame."""
        return self.lookup(target, fixed, target_time) @ self.lookup(fixed, source, source_time)

    def _chain(self, frame: str) -> list[str]:
        """Return a frame and its ancestors."""
        chain = [frame]
        while (edge := self._edges.get(chain[-1])) is not None and edge.parent not in chain:
            chain.append(edge.parent)
        return chain

    def _multiply(self, frames: list[str], time: int) -> Matrix:
        """Return the transform from the first of these frames to the parent of the last."""
        result = np.eye(4)
        for frame in frames:
            result = self._at(frame, time) @ result
        return result

    def _at(self, frame: str, time: int) -> Matrix:
        edge = self._edges[frame]
        if edge.static:
            return _matrix(*edge.values[0])
        at = bisect_left(edge.times, time)
        if at < len(edge.times) and edge.times[at] == time:
            return _matrix(*edge.values[at])
        if at in (0, len(edge.times)):
            nearest = edge.times[0] if at == 0 else edge.times[-1]
            raise AnchorError(
                f"the transform from {frame!r} to {edge.parent!r} is recorded only up to "
                f"{abs(time - nearest) * 1e-9:.3f} s {'after' if at == 0 else 'before'} this time, and not "
                "extrapolated"
            )
        share = (time - edge.times[at - 1]) / (edge.times[at] - edge.times[at - 1])
        (t0, q0), (t1, q1) = edge.values[at - 1], edge.values[at]
        return _matrix(t0 + share * (t1 - t0), _slerp(q0, q1, share))


def _matrix(translation: Matrix, quaternion: Matrix) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3] = matrix_from_quaternion(*quaternion)
    matrix[:3, 3] = translation
    return matrix


def _slerp(first: Matrix, second: Matrix, share: float) -> Matrix:
    """Interpolate two unit quaternions along the shorter arc."""
    cosine = float(first @ second)
    if cosine < 0.0:
        second, cosine = -second, -cosine
    if cosine > 0.9995:
        mixed = first + share * (second - first)
        return np.asarray(mixed / np.linalg.norm(mixed))
    angle = np.arccos(cosine)
    return np.asarray((np.sin((1 - share) * angle) * first + np.sin(share * angle) * second) / np.sin(angle))
