"""The scale of a recording's frames, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.ground_plane import scale_from_height
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_fit import ScaleFit
from redepth_ros.core.metric.scale_tracker import ScaleTracker, anchors_agree
from redepth_ros.nodes.settings import DepthSettings

__all__ = ["RecordingScale", "TrackedScale"]

Measured = tuple[float, ...]
"""Scale, shift, covariance (3 values) and residual_stddev of a fit."""


@dataclass(frozen=True)
class TrackedScale:
    """The scale of a frame."""

    scale: Scale | None
    """None before the first usable anchors of a relative network."""
    residual_stddev: float
    """Standard deviation of 1 / depth at the anchors, averaged over frames; 0 without anchors."""
    anchors: Anchors | None = None
    """Those that were used."""
    measured: Measured | None = None
    """What the frame's own anchors give, also if the filter rejected it."""
    problem: str = ""
    """Why the anchors of the frame were not used."""


class RecordingScale:
    """The scale of each frame of a recording, by its anchors or by the camera's height.

    `replay` brings it to the state after frames of a former call.
    """

    def __init__(self, settings: DepthSettings, metric: bool, kind: str) -> None:
        """Args:
        settings: as of the node.
        metric: whether the network is metric.
        kind: none, anchors or height.
        """
        self._settings, self._metric, self._kind = settings, metric, kind
        self._tracker = ScaleTracker(
            metric=metric,
            measurement_noise=settings.scale_measurement_noise,
            process_noise=settings.scale_process_noise,
            timeout=settings.scale_timeout,
        )
        self.first: Scale | None = None
        """Scale of frames before the first usable anchors, found by looking ahead."""

    @property
    def has_anchors(self) -> bool:
        """Whether frames may have anchors."""
        return self._kind == "anchors"

    @property
    def needs_first(self) -> bool:
        """Whether frames before the first usable anchors would have no scale."""
        return self._kind != "none" and self._scale() is None

    def can_measure(self, anchors: Anchors | None) -> bool:
        """Return whether a frame can have a scale of its own."""
        return self._kind == "height" or anchors is not None

    def update(
        self,
        time: float,
        disparity: Tensor,
        anchors: Anchors | None,
        camera: PinholeCamera | None,
        known: Scale | None = None,
    ) -> TrackedScale:
        """Return the scale of a frame.

        Args:
            time: of the frame, seconds.
            disparity: (H, W), see `core.metric.scale.disparity_from_output`.
            anchors, camera: of the frame.
            known: scale of the disparity that the network knows itself.
        """
        if self._kind == "none":
            return TrackedScale(self._settings.fixed_scale(self._metric, known), 0.0)
        fit, problem = None, ""
        try:
            fit = self.measure(disparity, anchors, camera)
        except AnchorError as error:
            problem = f"anchors give no scale: {error}"
        problem = problem or self._tracker.notice
        measured = _pack(fit) if fit is not None else None
        accepted = self._tracker.update(time, fit)
        if fit is not None and not accepted:
            problem = "anchors give no scale: it is too far from that of the frames before"
        scale, used = self._scale(known), anchors
        if not accepted and anchors is not None and not anchors_agree(anchors, disparity, scale):
            used = None
        return TrackedScale(scale, self._tracker.residual_stddev, used, measured, problem)

    def replay(self, time: float, measured: Measured | None) -> None:
        """Repeat the update of a frame by what it measured."""
        if self._kind == "none":
            return
        fit = None
        if measured is not None:
            scale, shift, variance, mixed, of_shift, residual_stddev = measured
            fit = ScaleFit(Scale(scale, shift, (variance, mixed, of_shift)), 1.0, residual_stddev)
        self._tracker.update(time, fit)

    def measure(
        self, disparity: Tensor, anchors: Anchors | None, camera: PinholeCamera | None
    ) -> ScaleFit | None:
        """Return the fit of a frame's anchors; None if it has none.

        Raises:
            AnchorError: the anchors do not determine the scale.
        """
        settings = self._settings
        if self._kind == "height":
            if camera is None:
                raise AnchorError(
                    f"--camera-height is {settings.camera_height:g} m, and the camera has no calibration: "
                    "give --camera-info or --intrinsics"
                )
            shift = settings.fixed_scale(self._metric).shift
            found = scale_from_height(disparity.cpu().numpy(), camera, settings.camera_height, shift)
            return ScaleFit(found, 1.0, 0.0)
        if anchors is None:
            return None
        return self._tracker.fit(
            anchors, disparity, noise=settings.anchor_noise, minimum=settings.min_anchors
        )

    def _scale(self, known: Scale | None = None) -> Scale | None:
        fixed = self._settings.fixed_scale(self._metric, known)
        fallback = fixed if self._metric or known is not None or fixed != Scale() else None
        return self._tracker.scale or self.first or fallback


def _pack(fit: ScaleFit) -> Measured:
    values = (fit.scale.scale, fit.scale.shift, *fit.scale.covariance, fit.residual_stddev)
    return tuple(float(value) for value in values)
