"""The scale over the frames of a stream or a recording: fitted, filtered, kept."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from torch import Tensor

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import ScaleFit, check_unit, fit_scale

__all__ = ["ScaleTracker", "anchors_agree"]

RESIDUAL_DECAY = 0.9
"""Weight of the previous value in the running mean of the residuals."""

MAX_LOG_DISTANCE = 0.5
"""Median of |ln(measured / scaled depth)| up to which anchors without a scale still correct the depth:
those of a wall do, millimetres taken for metres do not."""

CONSISTENT_FITS = 10
"""Fits in a row, all off by the same factor, after which the known scale counts as wrong."""


class ScaleTracker:
    """Fits the scale to each frame's anchors, filters it, and keeps the last good one.

    Times are seconds on any clock; a clock that jumps back starts anew.
    """

    def __init__(
        self, *, metric: bool, measurement_noise: float, process_noise: float, timeout: float
    ) -> None:
        """Args:
        metric: whether the network is metric.
        measurement_noise, process_noise, timeout: see `ScaleFilter`.
        """
        self._metric = metric
        self._options = {
            "measurement_noise": measurement_noise,
            "process_noise": process_noise,
            "timeout": timeout,
        }
        self._filter = ScaleFilter(**self._options)
        self._refused: deque[float] = deque(maxlen=CONSISTENT_FITS)  # ln scale of fits of another unit
        self.residual_stddev = 0.0
        """Standard deviation of 1 / depth at the anchors, 1 / metres, averaged over frames; 0 before the
        first accepted fit."""
        self.notice = ""
        """What the user should know of the last fit; empty if there is nothing."""

    @property
    def scale(self) -> Scale | None:
        """The filtered scale; None before the first accepted fit."""
        return self._filter.scale

    @property
    def lost(self) -> bool:
        """Whether the last accepted fit is older than the timeout."""
        return self._filter.lost

    @property
    def age(self) -> float:
        """Seconds since the last accepted fit."""
        return self._filter.age

    def fit(self, anchors: Anchors, disparity: Tensor, *, noise: float, minimum: int) -> ScaleFit:
        """Fit the scale of one frame.

        Args:
            anchors: of the frame.
            disparity: (H, W), see `disparity_from_output`.
            noise, minimum: see `fit_scale`.

        Raises:
            AnchorError: the anchors do not determine the scale, or their unit is not metres.
        """
        self.notice = ""
        sampled = anchors.sample(disparity).cpu().numpy()  # (N,)
        try:
            fit = fit_scale(sampled, anchors.depth, noise=noise, minimum=minimum, fit_shift=not self._metric)
        except np.linalg.LinAlgError as error:
            raise AnchorError(f"the scale can't be computed from {len(anchors)} anchors: {error}") from error
        self._check_unit(fit.scale)
        return fit

    def _check_unit(self, found: Scale) -> None:
        """Compare a fit with the known unit.

        A relative network has no unit of its own: if the first anchors were wrong, many consistent ones
        are right, and the scale starts anew with them.

        Raises:
            AnchorError: see `check_unit`.
        """
        known = self.scale or (Scale() if self._metric else None)
        if known is None:
            return
        try:
            check_unit(found, known)
        except AnchorError:
            self._refused.append(math.log(found.scale))
            spread = max(self._refused) - min(self._refused)
            if self._metric or len(self._refused) < CONSISTENT_FITS or spread > MAX_LOG_DISTANCE:
                raise
            self._filter = ScaleFilter(**self._options)
            self.notice = (
                f"the scale starts anew: by the last {CONSISTENT_FITS} anchors everything is "
                f"{found.scale / known.scale:.3g} times as far as by the first ones"
            )
        self._refused.clear()

    def update(self, time: float, fit: ScaleFit | None) -> bool:
        """Advance to the time of a frame and filter its fit; return whether a fit was accepted."""
        self._filter.advance(time)
        if fit is None or not self._filter.update(time, fit.scale):
            return False
        decay = RESIDUAL_DECAY if self.residual_stddev else 0.0
        self.residual_stddev = decay * self.residual_stddev + (1.0 - decay) * fit.residual_stddev
        return True


def anchors_agree(anchors: Anchors, disparity: Tensor, scale: Scale | None) -> bool:
    """Return whether anchors that determine no scale are near to the depth of a known one.

    Args:
        anchors: of the frame.
        disparity: (H, W), see `disparity_from_output`.
        scale: known before; without one there is nothing to contradict.
    """
    if scale is None:
        return True
    depth = scale.depth(anchors.sample(disparity)).cpu().numpy()  # (N,)
    distance = np.abs(np.log(anchors.depth / depth))
    return bool(np.nanmedian(distance) < MAX_LOG_DISTANCE) if np.isfinite(distance).any() else False
