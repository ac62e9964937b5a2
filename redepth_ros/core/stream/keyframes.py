"""Which frames are keyframes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from redepth_ros.core.errors import ConfigError

__all__ = ["POLICIES", "Keyframes"]

POLICIES = ("none", "interval", "motion", "on_request", "all")
"""When a frame becomes a keyframe, see `Keyframes`."""


class Keyframes:
    """Decides which frames become keyframes.

    - none: no frame.
    - interval: one every `interval` seconds.
    - motion: when what the encoder sees has changed: the cosine distance between its class
      tokens of this frame and of the last keyframe exceeds `motion`.
    - on_request: when `request` was called.
    - all: every frame.

    A request is granted under every policy but none. Two keyframes are never closer than
    `spacing` seconds, requested ones excepted. Times are seconds on any clock; one that jumps
    back starts anew.
    """

    def __init__(self, policy: str, *, interval: float, spacing: float, motion: float) -> None:
        if policy not in POLICIES:
            raise ConfigError(f"keyframe policy is {policy!r}; it must be one of: {', '.join(POLICIES)}")
        self._policy, self._interval, self._spacing, self._motion = policy, interval, spacing, motion
        self._last_time: float | None = None
        self._last_signature: Tensor | None = None
        self._requested = False

    def request(self) -> None:
        """Make the next possible frame a keyframe."""
        self._requested = True

    def is_due(self, time: float, signature: Tensor) -> bool:
        """Whether a frame should become a keyframe.

        Args:
            time: of the frame, seconds.
            signature: its class token, (C,).
        """
        if self._policy == "none":
            return False
        if self._requested or self._last_time is None:
            return self._requested or self._policy != "on_request"
        since = time - self._last_time
        if since < 0:
            return self._policy != "on_request"
        if since < self._spacing:
            return False
        if self._policy == "interval":
            return since >= self._interval
        if self._policy == "motion":
            return self.distance(signature) > self._motion
        return self._policy == "all"

    def distance(self, signature: Tensor) -> float:
        """Cosine distance, 0..2, from the last keyframe; 0 where there is none yet."""
        if self._last_signature is None:
            return 0.0
        similarity = cosine_similarity(signature.float(), self._last_signature, dim=0)
        return float(1.0 - torch.clamp(similarity, -1.0, 1.0))

    def take(self, time: float, signature: Tensor) -> None:
        """Note that a frame has become a keyframe."""
        self._last_time, self._last_signature = time, signature.float().clone()
        self._requested = False
