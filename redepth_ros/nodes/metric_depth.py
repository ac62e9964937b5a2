"""Metric depth of the fast stream: the scale of each frame, fused with its anchors."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus
from numpy.typing import NDArray
from std_msgs.msg import Header
from torch import Tensor

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.fusion import FusedDepth
from redepth_ros.core.metric.residual_history import ResidualHistory
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import depth_stddev
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.msgs.time import nanoseconds
from redepth_ros.ros.node.diagnostics import Health

__all__ = ["MetricDepth", "MetricEstimate"]

SOURCES = {
    "fused": "network corrected by anchors",
    "interpolated": "anchors alone: the network's depth does not agree with them",
    "scaled": "network with a global scale",
}
"""Where the depth of a frame comes from, for the diagnostics."""


@dataclass(frozen=True)
class MetricEstimate:
    """Depth of one frame; maps are (H, W) on the CPU."""

    depth: Tensor
    """NaN at infinity, and everywhere as long as the depth has no unit."""
    stddev: Tensor | None
    """In the unit of the depth; None if it is not needed."""
    scale: Scale | None
    anchors: Anchors | None
    """Of this frame; None if it has none that were used."""

    @property
    def valid(self) -> bool:
        """Whether there is depth at all."""
        return self.scale is not None or self.anchors is not None


class MetricDepth:
    """Turns the disparity of each frame into depth.

    The scale is fitted to the anchors and filtered (`MetricScale`). Then a correction that varies over the
    image is fitted to what the scale leaves of the anchors (`core.metric.fusion`). Frames without anchors
    of their own carry the last correction on, fading to the scale alone (`ResidualHistory`), so that depth
    does not flicker between a camera of 30 Hz and a lidar of 10 Hz.

    `estimate` is called by the model thread, everything else by the executor's.
    """

    def __init__(self, scale: MetricScale) -> None:
        self.scale = scale
        self._history = ResidualHistory()
        self._lock = threading.Lock()
        self._source, self._agreeing = "scaled", 1.0

    def estimate(
        self,
        header: Header,
        disparity: Tensor,
        image: NDArray[np.uint8],
        camera: PinholeCamera | None,
        settings: DepthSettings,
        needs_stddev: bool,
        known_scale: Scale | None = None,
        anchors: Anchors | None = None,
    ) -> MetricEstimate:
        """Return the depth of a frame.

        Args:
            header: of the image.
            disparity: (H, W), see `core.metric.scale.disparity_from_output`.
            image: (H, W, 3) RGB, guides the correction.
            camera: of the image, if known.
            settings: of the node.
            needs_stddev: whether to compute the standard deviation.
            known_scale: of the disparity, if the network knows it itself.
            anchors: of the frame, if they were taken before.
        """
        scale, anchors = self.scale.update(header, disparity, camera, settings, known_scale, anchors)
        if settings.fuse_anchors and settings.anchors in ("depth", "points"):
            fused = self._fuse(header, disparity, image, scale, anchors, settings)
            if fused is not None:
                return MetricEstimate(fused.depth, fused.stddev, scale, anchors)
        if scale is None:
            return MetricEstimate(torch.full(disparity.shape, torch.nan), None, None, None)
        depth, stddev = scale.depth(disparity), None
        if needs_stddev:
            residual, assumed = self.scale.residual_stddev, settings.assumed_relative_stddev
            stddev = depth_stddev(depth, disparity, scale, residual, assumed).cpu()
        # Copied here: in the publishing thread the copy would wait for the kernels of the next frame.
        return MetricEstimate(depth.cpu(), stddev, scale, anchors)

    def _fuse(
        self,
        header: Header,
        disparity: Tensor,
        image: NDArray[np.uint8],
        scale: Scale | None,
        anchors: Anchors | None,
        settings: DepthSettings,
    ) -> FusedDepth | None:
        """Return the depth fused with the anchors; None while there are neither scale nor anchors."""
        fused: FusedDepth | None = None
        with self.scale.tolerate(lambda: "depth is not fused with the anchors"), suppress(AnchorError):
            fused = self._history.fuse(
                nanoseconds(header.stamp) * 1e-9,
                disparity.cpu(),
                anchors,
                scale,
                image=torch.from_numpy(np.ascontiguousarray(image)),
                noise=settings.anchor_noise,
            )
        if fused is None:
            return None
        with self._lock:
            self._source, self._agreeing = fused.source, fused.agreeing
        return fused

    def health(self, settings: DepthSettings) -> Health:
        """Return the state of scale and fusion for the diagnostics."""
        health = self.scale.state(settings).health
        if not settings.fuse_anchors or settings.anchors not in ("depth", "points"):
            return health
        with self._lock:
            source, agreeing = self._source, self._agreeing
        values = {
            **health.values,
            "depth source": f"{source} ({SOURCES[source]})",
            "anchors agreeing with the fused depth (%)": f"{100.0 * agreeing:.0f}",
        }
        if health.level == DiagnosticStatus.OK and source == "interpolated":
            return Health(DiagnosticStatus.WARN, f"depth is of {SOURCES[source]}", values)
        return Health(health.level, health.message, values)
