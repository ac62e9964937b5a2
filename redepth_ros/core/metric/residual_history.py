"""Corrections carried over a stream, so that frames without anchors keep them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import torch
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.candidates import Candidate, fit_candidates
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.fusion import (
    MIN_ANCHORS,
    FusedDepth,
    apply_candidates,
    fuse_depth,
    grid_log_base,
    max_base_depth,
    residual_samples,
    scaled_depth,
    subset,
)
from redepth_ros.core.metric.residual_gp import MEMORY
from redepth_ros.core.metric.samples import Samples, concatenate
from redepth_ros.core.metric.scale import Scale

__all__ = ["ResidualHistory"]

MAX_CARRIED = 120
"""Samples of earlier frames that join those of a frame with anchors."""
MIN_CARRIED_WEIGHT = 0.5
"""Weight below which a sample is not carried."""
JITTER_MEMORY = 0.1
"""Seconds in which a change of the whole image's depth counts as motion, not as jitter of the network."""


class ResidualHistory:
    """Fusion of a stream of frames of which only some have anchors.

    It keeps the samples of the last frames with anchors, with their ages. The correlation of their
    corrections with the present falls as exp(-age / MEMORY), so that a correction fades to the global scale,
    and the standard deviation grows. The features of the present frame decide where a carried correction
    acts: it moves with depth edges. Candidate models are fitted and averaged as in `fuse_depth`.

    A network's output varies as a whole from frame to frame. In frames without anchors, the median change of
    the base's ln depth counts as such jitter and is removed, but forgotten within JITTER_MEMORY: the depth
    lags behind a motion along the optical axis by no more than that.

    Times are in seconds on any clock; a clock that goes back clears the memory.
    """

    def __init__(self, *, frames: int = 4, horizon: float = 3.0 * MEMORY) -> None:
        """Configure the memory.

        Args:
            frames: number of earlier frames with anchors that are kept.
            horizon: seconds after which samples are forgotten.
        """
        self._frames, self._horizon = frames, horizon
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        self._kept: deque[tuple[float, Samples]] = deque(maxlen=self._frames)
        self._candidates: list[Candidate] = []
        self._fit_time = self._time = -math.inf
        self._max_depth = math.inf
        self._jitter = 0.0
        self._log_base: Tensor | None = None  # (rows, columns) of the last frame

    def fuse(
        self,
        time: float,
        disparity: Tensor,
        anchors: Anchors | None,
        scale: Scale | None,
        *,
        image: Tensor | None = None,
        noise: float = 0.01,
    ) -> FusedDepth:
        """Fuse a frame with its own anchors, if it has any, and with the samples of earlier frames.

        Args:
            time: of the frame, seconds.
            disparity, anchors, scale, image, noise: see `fuse_depth`.

        Raises:
            AnchorError: neither a scale nor enough anchors.
        """
        if time < self._time:
            self.clear()
        elapsed, self._time = time - self._time, time
        frame = FrameFeatures(disparity, image)
        if scale is None or frame.constant:
            return fuse_depth(disparity, anchors, scale, image=image, noise=noise)
        while self._kept and time - self._kept[0][0] > self._horizon:
            self._kept.popleft()
        if anchors is not None and len(anchors):
            samples = residual_samples(frame, anchors, scale)
            if len(samples) >= MIN_ANCHORS:
                self._max_depth = max_base_depth(anchors)
                return self._fuse_anchored(time, frame, samples, scale, noise)
        return self._fuse_carried(time, elapsed, frame, scale)

    def _fuse_anchored(
        self, time: float, frame: FrameFeatures, samples: Samples, scale: Scale, noise: float
    ) -> FusedDepth:
        """Fuse a frame with anchors, and keep its right samples."""
        own = subset(samples)
        parts = [own]
        if self._kept:
            carried = concatenate(
                [replace(kept, age=torch.full_like(kept.age, time - then)) for then, kept in self._kept]
            )
            parts.append(carried.select(slice(-MAX_CARRIED, None)))  # the newest are last
        self._candidates = fit_candidates(concatenate(parts), noise, network=True)
        result = apply_candidates(
            frame, self._candidates, scale, self._max_depth, samples=samples, noise=noise
        )
        weight = max(self._candidates, key=lambda one: one.share).correction.weight[: len(own)]
        right = own.select(weight > MIN_CARRIED_WEIGHT)
        count = max(1, MAX_CARRIED // self._frames)
        if len(right) > count:
            right = right.select(torch.linspace(0, len(right) - 1, count).round().long())
        if len(right):
            self._kept.append((time, right))
        self._fit_time, self._jitter = time, 0.0
        self._log_base = grid_log_base(frame, scale, self._max_depth)
        return result

    def _fuse_carried(self, time: float, elapsed: float, frame: FrameFeatures, scale: Scale) -> FusedDepth:
        """Apply the last corrections to a frame without anchors."""
        log_base = grid_log_base(frame, scale, self._max_depth)
        age = time - self._fit_time
        if not self._candidates or age > self._horizon:
            self._candidates, self._log_base = [], log_base
            return scaled_depth(frame.disparity, scale)
        if self._log_base is not None and self._log_base.shape == log_base.shape:
            change = float((log_base - self._log_base).nanmedian().nan_to_num(0.0))
            self._jitter = (self._jitter + change) * math.exp(-max(elapsed, 0.0) / JITTER_MEMORY)
        self._log_base = log_base
        return apply_candidates(
            frame,
            self._candidates,
            scale,
            self._max_depth,
            fade=math.exp(-age / MEMORY),
            offset=-self._jitter,
        )
