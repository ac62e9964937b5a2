"""The metric scale of the fast depth, frame by frame."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, OutOfMemory, reason_of
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.ground_plane import scale_from_height
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_fit import ScaleFit
from redepth_ros.core.metric.scale_tracker import ScaleTracker, anchors_agree
from redepth_ros.nodes.known_scale import KnownScale
from redepth_ros.nodes.scale_state import ScaleState
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.msgs.time import nanoseconds

__all__ = ["AnchorSource", "MetricScale"]


class AnchorSource(Protocol):
    """Source of measured depth; see `ros.streams.AnchorInput`."""

    stamp_distance: float
    """Seconds between the stamps of the last image and of the nearest anchors."""

    def anchors(
        self, header: Header, height: int, width: int, camera: PinholeCamera | None
    ) -> Anchors | None:
        """Return the anchors of an image; None if there are no new ones. May raise AnchorError."""


class MetricScale:
    """Fits the scale to each frame's anchors, filters it, and keeps the last good one when the fit fails.

    `update` is called by the model thread, everything else by the executor's.
    """

    def __init__(
        self,
        settings: DepthSettings,
        metric: bool,
        source: AnchorSource | None,
        warn: Callable[[str], None],
        scale_source: str = "",
    ) -> None:
        """Args:
        settings: of the node; `update` takes those that may change at run time.
        metric: whether the network is metric.
        source: of anchors, for anchors: depth and anchors: points.
        warn: called with the reason when anchors give no scale.
        scale_source: see `DepthAnything.scale_source`.
        """
        self._known = KnownScale(scale_source)
        self._kind, self._metric, self._source, self._warn = settings.anchors, metric, source, warn
        self._metric_alone = metric and scale_source != "prompt"
        self._tracker = ScaleTracker(
            metric=metric,
            measurement_noise=settings.scale_measurement_noise,
            process_noise=settings.scale_process_noise,
            timeout=settings.scale_timeout,
        )
        self._lock = threading.Lock()
        self._inlier_fraction = float("nan")
        self._count = 0
        self._unmatched_since = float("nan")  # monotonic clock; NaN while images have anchors
        relative = not metric and scale_source in ("", "prompt")
        self._shift_unknown = self._kind == "height" and relative and not settings.shift
        if self._shift_unknown:
            warn(
                "anchors is height, the model is relative and shift is 0: the depth is in metres only if the "
                "model's disparity has no shift of its own; set shift, or use a metric model"
            )

    @property
    def anchored(self) -> bool:
        """Whether the scale comes from anchors."""
        return self._kind != "none"

    @property
    def scale(self) -> Scale | None:
        """The filtered scale; None without anchors, or before the first usable ones."""
        with self._lock:
            return self._tracker.scale

    @property
    def residual_stddev(self) -> float:
        """Standard deviation of 1 / depth at the anchors, see `ScaleTracker`."""
        return self._tracker.residual_stddev

    def update(
        self,
        header: Header,
        disparity: Tensor,
        camera: PinholeCamera | None,
        settings: DepthSettings,
        known: Scale | None = None,
        anchors: Anchors | None = None,
    ) -> tuple[Scale | None, Anchors | None]:
        """Return the scale of a frame and the frame's own anchors.

        Args:
            header: of the image.
            disparity: (H, W), see `core.metric.scale.disparity_from_output`.
            camera: of the image, if known.
            settings: of the node.
            known: scale of the disparity that the network knows itself.
            anchors: of the frame, if `take_anchors` took them.

        Returns:
            The scale is None as long as a relative network had no usable anchors and the parameters scale
            and shift have their defaults: depth then has no unit. The anchors are None if the frame has
            none that were used.
        """
        known = self._known.update(known, camera)
        fixed = settings.fixed_scale(self._metric, known)
        if not self.anchored:
            return fixed, None
        fit: ScaleFit | None = None
        time = nanoseconds(header.stamp) * 1e-9
        with self.tolerate(self._consequence):
            height, width = disparity.shape
            anchors = anchors or self._find_anchors(header, height, width, camera)
            fit = self._fit(anchors, disparity, camera, settings)
        accepted = False
        with self.tolerate(self._consequence), self._lock:
            accepted = self._tracker.update(time, fit)
        scale = self.scale
        if accepted and fit is not None and anchors is not None:
            self._inlier_fraction, self._count = fit.agreeing, len(anchors)
        if scale is None and (self._metric or known is not None or fixed != Scale()):
            scale = fixed
        if not accepted and anchors is not None and not anchors_agree(anchors, disparity, scale):
            anchors = None
        return scale, anchors

    @contextmanager
    def tolerate(self, consequence: Callable[[], str]) -> Iterator[None]:
        """Turn every error but a lack of memory into a warning: the next anchors may be good.

        Args:
            consequence: returns what the error means for the frame, in words.
        """
        try:
            with memory_errors():
                yield
        except OutOfMemory:
            raise
        except Exception as error:  # a singular matrix, for example
            self._warn(f"{consequence()}: {reason_of(error)}")

    def _consequence(self) -> str:
        kept = "the last good scale is kept" if self.scale else "there is no scale yet"
        return f"anchors give no scale, {kept}"

    @property
    def has_anchors(self) -> bool:
        """Whether frames may have anchors."""
        return self._source is not None

    def take_anchors(
        self, header: Header, height: int, width: int, camera: PinholeCamera | None
    ) -> Anchors | None:
        """Return the anchors of an image (height, width) before its depth is known; None if it has none."""
        anchors: Anchors | None = None
        with self.tolerate(self._consequence):
            anchors = self._find_anchors(header, height, width, camera)
        return anchors

    def _find_anchors(
        self, header: Header, height: int, width: int, camera: PinholeCamera | None
    ) -> Anchors | None:
        """Return a frame's anchors; without the lock, since this may wait for them."""
        if self._source is None:
            return None
        anchors = self._source.anchors(header, height, width, camera)
        if anchors is not None:
            self._unmatched_since = float("nan")
        elif math.isnan(self._unmatched_since):
            self._unmatched_since = monotonic()
        return anchors

    def _fit(
        self,
        anchors: Anchors | None,
        disparity: Tensor,
        camera: PinholeCamera | None,
        settings: DepthSettings,
    ) -> ScaleFit | None:
        """Return the fit of a frame, by its anchors or the camera's height; None without anchors."""
        if self._source is None:
            return self._fit_height(disparity, camera, settings)
        if anchors is None:
            return None
        with self._lock:
            fit = self._tracker.fit(
                anchors, disparity, noise=settings.anchor_noise, minimum=settings.min_anchors
            )
        if self._tracker.notice:
            self._warn(self._tracker.notice)
        return fit

    def _fit_height(
        self, disparity: Tensor, camera: PinholeCamera | None, settings: DepthSettings
    ) -> ScaleFit:
        if camera is None:
            raise AnchorError(
                "anchors is height, and the image has no camera_info: publish it with the stamp of the image"
            )
        shift = settings.fixed_scale(self._metric).shift
        scale = scale_from_height(disparity.cpu().numpy(), camera, settings.camera_height, shift)
        return ScaleFit(scale, 1.0, 0.0)

    def state(self, settings: DepthSettings) -> ScaleState:
        """Return the state of the scale for the log and the diagnostics."""
        with self._lock:
            return ScaleState(
                settings,
                scale=self._tracker.scale,
                age=self._tracker.age,
                lost=self._tracker.lost,
                anchors=self._count,
                agreeing=self._inlier_fraction,
                unmatched=monotonic() - self._unmatched_since,
                stamp_distance=self._source.stamp_distance if self._source is not None else 0.0,
                known=self._known,
                metric=self._metric_alone,
                shift_unknown=self._shift_unknown,
            )
