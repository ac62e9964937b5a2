"""Selection of keyframes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from redepth_ros.core.errors import ConfigError

__all__ = ["KEYFRAME_POLICIES", "KeyframeSelector"]

KEYFRAME_POLICIES = ("none", "interval", "motion", "on_request", "all")
"""When a frame becomes a keyframe, see `KeyframeSelector`."""

RETRY_INTERVAL = 1.0
"""Smallest time until a lost keyframe is replaced, seconds."""


class KeyframeSelector:
    """Selects the frames that become keyframes.

    - none: no frame.
    - interval: one frame every `interval` seconds.
    - motion: a frame whose view has changed: the cosine distance between its class token and that of
      the last keyframe exceeds `motion_threshold`.
    - on_request: the next frame after `request`.
    - all: every frame.

    A keyframe that was lost (see `lose`) is replaced after RETRY_INTERVAL, also if the view stands still. A
    request is granted under every policy except none. Keyframes that were not requested are at least
    `min_interval` seconds apart. Times are seconds on any clock; a clock that jumps back starts anew.
    """

    def __init__(self, policy: str, *, interval: float, min_interval: float, motion_threshold: float) -> None:
        if policy not in KEYFRAME_POLICIES:
            raise ConfigError(
                f"keyframe policy is {policy!r}; it must be one of: {', '.join(KEYFRAME_POLICIES)}"
            )
        self._policy, self._interval = policy, interval
        self._min_interval, self._motion_threshold = min_interval, motion_threshold
        self._last_time: float | None = None
        self._last_token: Tensor | None = None
        self._requested = self._lost = False

    def request(self) -> None:
        """Make the next possible frame a keyframe."""
        self._requested = True

    def lose(self) -> None:
        """Record that the last keyframe was not refined: a later frame has to replace it."""
        self._lost = True

    def is_due(self, time: float, class_token: Tensor) -> bool:
        """Return whether a frame should become a keyframe.

        Args:
            time: of the frame, seconds.
            class_token: of the frame, (C,).
        """
        if self._policy == "none":
            return False
        if self._requested or self._last_time is None:
            return self._requested or self._policy != "on_request"
        since = time - self._last_time
        if since < 0:
            return self._lost or self._policy != "on_request"
        if since < self._min_interval:
            return False
        if self._lost and since >= RETRY_INTERVAL:
            return True
        if self._policy == "interval":
            return since >= self._interval
        if self._policy == "motion":
            return self.distance(class_token) > self._motion_threshold
        return self._policy == "all"

    def distance(self, class_token: Tensor) -> float:
        """Return the cosine distance to the last keyframe, in [0, 2]; 0 before the first one."""
        if self._last_token is None:
            return 0.0
        similarity = cosine_similarity(class_token.float(), self._last_token, dim=0)
        return float(1.0 - torch.clamp(similarity, -1.0, 1.0))

    def accept(self, time: float, class_token: Tensor) -> None:
        """Record that a frame has become a keyframe."""
        self._last_time, self._last_token = time, class_token.float().clone()
        self._requested = self._lost = False
