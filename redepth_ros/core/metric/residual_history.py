"""Corrections carried over a stream, so that frames without anchors keep them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.detail import detail_of
from redepth_ros.core.metric.frame_features import FrameFeatures
from redepth_ros.core.metric.fusion import (
    FARTHEST,
    FEWEST,
    MOST,
    FusedDepth,
    apply_correction,
    fuse_depth,
    log_base,
    residual_samples,
    scaled_depth,
    thinned,
)
from redepth_ros.core.metric.residual_gp import MEMORY, Correction, Samples, fit_correction, joined
from redepth_ros.core.metric.scale import Scale

__all__ = ["ResidualHistory"]

CARRIED = 120
"""Samples of earlier frames that join those of a frame with anchors."""
JITTER_MEMORY = 0.1
"""Seconds in which a change of the whole picture's depth counts as motion, not as jitter of the network."""


class ResidualHistory:
    """Fusion of a stream of frames of which only some have anchors.

    It keeps the residuals of the last frames with their ages. Their correlation with the present falls as
    exp(-age / MEMORY), so that a correction fades to the global scale, and the standard deviation grows.
    The features of the present frame decide where a carried correction acts: it moves with depth edges.

    A network's output varies as a whole from frame to frame. In frames without anchors the median change of
    the base's ln depth is taken for such jitter, and removed, but forgotten within JITTER_MEMORY, so that
    true motion along the optical axis lags by no more than that.

    Times are in seconds on any clock; a clock that goes back starts anew.
    """

    def __init__(self, *, frames: int = 4, horizon: float = 3.0 * MEMORY) -> None:
        """Configure the memory.

        Args:
            frames: number of earlier frames with anchors that are kept.
            horizon: seconds after which a residual is forgotten.
        """
        self._frames, self._horizon = frames, horizon
        self.clear()

    def clear(self) -> None:
        """Forget all frames."""
        self._kept: deque[tuple[float, Samples]] = deque(maxlen=self._frames)
        self._correction: Correction | None = None
        self._fitted_at = self._time = -math.inf
        self._farthest = math.inf
        self._jitter = 0.0
        self._level: Tensor | None = None  # (rows, columns) ln base depth of the last frame

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
        """Fuse a frame with its own anchors, if it has any, and with what earlier frames said.

        Args:
            time: of the frame, seconds.
            disparity, anchors, scale, image, noise: see `fuse_depth`.

        Raises:
            AnchorError: neither a scale nor anchors.
        """
        if time < self._time:
            self.clear()
        previous, self._time = self._time, time
        frame = FrameFeatures(disparity, image)
        if scale is None or frame.constant:
            return fuse_depth(disparity, anchors, scale, image=image, noise=noise)
        while self._kept and time - self._kept[0][0] > self._horizon:
            self._kept.popleft()
        samples = None if anchors is None or not len(anchors) else residual_samples(frame, anchors, scale)
        if samples is not None and len(samples) >= FEWEST:
            assert anchors is not None
            return self._with_anchors(time, frame, anchors, samples, scale, noise)
        return self._without_anchors(time, time - previous, frame, scale)

    def _with_anchors(
        self,
        time: float,
        frame: FrameFeatures,
        anchors: Anchors,
        samples: Samples,
        scale: Scale,
        noise: float,
    ) -> FusedDepth:
        self._farthest = FARTHEST * float(np.percentile(anchors.depth, 98.0))
        earlier = [replace(kept, age=torch.full_like(kept.age, time - then)) for then, kept in self._kept]
        some = thinned(samples)
        carried = joined(earlier) if earlier else None
        if carried is not None and len(carried) > CARRIED:
            # The newest count most: they are last.
            carried = carried.chosen(torch.arange(len(carried) - CARRIED, len(carried)))
        correction = fit_correction(joined([some, carried]) if carried is not None else some, noise)
        detail = detail_of(correction, samples, frame, noise) if len(samples) > MOST else None
        result = apply_correction(frame, correction, scale, self._farthest, detail)
        own = correction.weight[: len(some)] > 0.5
        kept = some.chosen(own)
        count = max(1, CARRIED // self._frames)
        if len(kept) > count:
            kept = kept.chosen(torch.linspace(0, len(kept) - 1, count).round().long())
        if len(kept):
            self._kept.append((time, kept))
        self._correction, self._fitted_at, self._jitter = correction, time, 0.0
        self._level = log_base(frame, scale, self._farthest)
        return result

    def _without_anchors(self, time: float, step: float, frame: FrameFeatures, scale: Scale) -> FusedDepth:
        level = log_base(frame, scale, self._farthest)
        if self._correction is None or time - self._fitted_at > self._horizon:
            self._correction, self._level = None, level
            return scaled_depth(frame.disparity, scale)
        if self._level is not None and self._level.shape == level.shape:
            change = (level - self._level).flatten()
            change = change[change.isfinite()]
            moved = float(change.median()) if len(change) else 0.0
            self._jitter = (self._jitter + moved) * math.exp(-max(step, 0.0) / JITTER_MEMORY)
        self._level = level
        age = time - self._fitted_at
        fade = math.exp(-age / MEMORY)
        return apply_correction(
            frame, self._correction, scale, self._farthest, fade=fade, offset=-self._jitter
        )
