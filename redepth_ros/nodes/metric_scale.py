"""The scale of the fast depth, frame by frame, from whatever knows metres."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from time import monotonic

from rclpy.node import Node
from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.core.metric.ground_plane import scale_from_height
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import ScaleFit, check_unit, fit_scale
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.streams.anchor_input import AnchorInput
from redepth_ros.ros.streams.message_cache import nanoseconds

__all__ = ["MetricScale"]


class MetricScale:
    """Fits each frame's anchors, filters the scale, and keeps the last good one when they fail.

    `of` is called by the model's thread, the rest by the executor's.
    """

    def __init__(
        self, node: Node, settings: DepthSettings, metric: bool, complain: Callable[[str], None]
    ) -> None:
        """Args:
        node: whose subscription the anchors are.
        settings: of the node; what is not fixed may be different in each call of `of`.
        metric: whether the network is metric.
        complain: told why anchors are not used.
        """
        self._kind, self._metric, self._complain = settings.anchors, metric, complain
        self._input: AnchorInput | None = None
        if settings.anchors in ("depth", "points"):
            self._input = AnchorInput(
                node, settings.anchors, settings.anchor_tolerance, settings.anchor_fixed_frame
            )
        self._filter = ScaleFilter(
            jitter=settings.scale_jitter, drift=settings.scale_drift, patience=settings.scale_patience
        )
        self._lock = threading.Lock()
        self.misfit = 0.0
        """Standard deviation of 1 / depth at the anchors, 1 / metres, smoothed; 0 before there were any."""
        self._agreeing = float("nan")
        self._count = 0
        self._patience = settings.scale_patience
        self._unmatched_since = float("nan")  # on the monotonic clock; NaN while images have anchors
        if self._kind == "height" and not metric and not settings.shift:
            node.get_logger().warning(
                "anchors is height, the model is relative and shift 0: the metres are right only if the "
                "model's disparity has no shift of its own; give the shift, or take a metric checkpoint"
            )

    @property
    def anchored(self) -> bool:
        """Whether anchors are asked for at all."""
        return self._kind != "none"

    def of(
        self, header: Header, disparity: Tensor, intrinsics: Intrinsics | None, settings: DepthSettings
    ) -> tuple[Scale | None, Anchors | None]:
        """The scale of a frame, and the anchors that it has.

        Args:
            header: of the image.
            disparity: (H, W), see `core.scale.disparity_of`.
            intrinsics: of the image, where they are known.
            settings: of the node.

        Returns:
            None for the scale while a relative network had no anchors yet and no scale and shift are
            given: its depth is in no unit. None for the anchors where the frame has none of its own.
        """
        fixed = settings.fixed_scale(self._metric)
        if not self.anchored:
            return fixed, None
        anchors = measured = None
        time = nanoseconds(header.stamp) * 1e-9
        try:
            anchors, measured = self._measure(header, disparity, intrinsics, settings)
        except (AnchorError, ImageError) as error:
            kept = "the last good scale is kept" if self.scale else "there is no scale yet"
            self._complain(f"anchors are not used, {kept}: {error}")
        with self._lock:
            self._filter.advance(time)
            if measured is not None and not self._filter.update(time, measured.scale):
                anchors = measured = None  # a scale that is not believed comes of anchors that are not
            scale = self._filter.scale
        if measured is not None and anchors is not None:
            self.misfit = 0.9 * self.misfit + 0.1 * measured.misfit if self.misfit else measured.misfit
            self._agreeing, self._count = measured.agreeing, len(anchors)
        if scale is None and (self._metric or fixed != Scale()):
            scale = fixed
        return scale, anchors

    def _measure(
        self, header: Header, disparity: Tensor, intrinsics: Intrinsics | None, settings: DepthSettings
    ) -> tuple[Anchors | None, ScaleFit | None]:
        """A frame's anchors, and what they say; without the lock, since they may have to be waited for."""
        if self._kind == "height":
            if intrinsics is None:
                raise AnchorError("camera_height needs the image's camera_info, and there is none")
            shift = settings.fixed_scale(self._metric).shift
            near = disparity.cpu().numpy()
            return None, ScaleFit(
                scale_from_height(near, intrinsics, settings.camera_height, shift), 1.0, 0.0
            )
        assert self._input is not None
        height, width = disparity.shape
        anchors = self._input.of(header, height, width, intrinsics)
        if anchors is None:
            if math.isnan(self._unmatched_since):
                self._unmatched_since = monotonic()
            return None, None
        self._unmatched_since = float("nan")
        found = fit_scale(
            anchors.at(disparity).cpu().numpy(), anchors.depth, noise=settings.anchor_noise,
            minimum=settings.anchor_minimum, fit_shift=not self._metric,
        )  # fmt: skip
        known = self.scale or (Scale() if self._metric else None)
        if known is not None:
            check_unit(found.scale, known)
        return anchors, found

    @property
    def scale(self) -> Scale | None:
        """What the anchors say now; None without them, or before the first usable ones."""
        with self._lock:
            return self._filter.scale

    @property
    def trouble(self) -> str:
        """What people should know of the scale now; empty if nothing."""
        with self._lock:
            if self._input is not None:
                unmatched = monotonic() - self._unmatched_since
                if unmatched > self._patience:
                    return (
                        f"no anchors within anchor_tolerance of an image for {unmatched:.0f} s: their stamps "
                        f"lie {self._input.apart:.3f} s apart"
                    )
            if not self.anchored or not self._filter.lost:
                return ""
            return f"no usable anchors for {self._filter.age:.0f} s: the last good scale is kept"

    def unit(self, settings: DepthSettings) -> str:
        """What the depth is in, in words."""
        with self._lock:
            found, age = self._filter.scale, self._filter.age
        if found is not None:
            return f"in metres, by anchors ({age:.1f} s ago)" if age > 1.0 else "in metres, by anchors"
        if self._metric:
            return "in metres (metric model)"
        if settings.fixed_scale(False) != Scale():
            return "in metres, by the scale and shift parameters"
        if self.anchored:
            return "invalid: no usable anchors yet"
        return "relative, not metres: set scale and shift once they are known, or give anchors"

    def values(self) -> dict[str, str]:
        """What diagnostics tell of it."""
        if not self.anchored:
            return {}
        with self._lock:
            scale, age = self._filter.scale, self._filter.age
        if scale is None:
            return {"scale": "none yet"}
        return {
            "scale": f"{scale.scale:.5g}",
            "scale standard deviation (%)": f"{100.0 * scale.relative_stddev:.2f}",
            "shift": f"{scale.shift:.5g}",
            "shift standard deviation": f"{math.sqrt(scale.covariance[2]):.2g}",
            "scale age (s)": f"{age:.2f}",
            "anchors": str(self._count),
            "anchors agreeing (%)": f"{100.0 * self._agreeing:.0f}",
        }

    def refresh(self) -> None:
        """Take what publishers of anchors offer now; to be called now and then."""
        if self._input is not None:
            self._input.subscription.refresh()

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._input is not None:
            self._input.destroy()
