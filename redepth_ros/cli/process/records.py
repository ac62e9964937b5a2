"""Frames whose network has run, and what is recorded of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from redepth_ros.cli.process.recording_scale import TrackedScale
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.fusion import FusedDepth
from redepth_ros.core.metric.residual_history import ResidualHistory
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.uncertainty import depth_stddev
from redepth_ros.exports.frames import DepthFrame, FrameRecord
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.recordings.recording import RecordedFrame
from redepth_ros.viz.colormaps import depth_limits

__all__ = ["ProcessedFrame", "scale_of_record"]


class ProcessedFrame:
    """A frame with its disparity and scale; `finish` makes depth and record of them.

    What needs no network is left to `finish`, which another thread calls while the network runs.
    """

    def __init__(
        self,
        item: RecordedFrame,
        disparity: Tensor,
        tracked: TrackedScale,
        class_token: str,
        settings: DepthSettings,
        with_stddev: bool,
        seconds: float,
        known: FrameRecord | None,
        history: ResidualHistory | None,
    ) -> None:
        """Args:
        item: as recorded.
        disparity: (H, W) on the CPU.
        tracked: scale of the frame.
        class_token: of a keyframe, in base64; empty for other frames.
        settings: of the depth.
        with_stddev: whether the standard deviation is needed.
        seconds: of the network.
        known: record of a former call, which is kept.
        history: corrections of the frames before; None does not fuse the anchors.
        """
        self._history = history
        self.item, self.tracked, self.keyframe = item, tracked, bool(class_token)
        self._disparity: Tensor | None = disparity
        self._class_token, self._settings, self._with_stddev = class_token, settings, with_stddev
        self._seconds, self._known = seconds, known
        self.depth_frame: DepthFrame
        self.record: FrameRecord

    @torch.inference_mode()
    def finish(self) -> None:
        """Set `depth_frame` and `record`; a second call does nothing."""
        if self._disparity is None:
            return
        disparity, self._disparity = self._disparity, None
        settings, tracked, item = self._settings, self.tracked, self.item
        scale, stddev = tracked.scale, None
        depth = torch.full_like(disparity, torch.nan) if scale is None else scale.depth(disparity)
        if (fused := self._fuse(disparity)) is not None:
            depth, stddev = fused.depth, fused.stddev
        elif scale is not None and (self._with_stddev or settings.max_relative_stddev):
            stddev = depth_stddev(
                depth, disparity, scale, tracked.residual_stddev, settings.assumed_relative_stddev
            )
        depth, stddev = settings.limits.apply(depth, stddev)  # (H, W) each
        self.depth_frame = DepthFrame(
            item.index,
            item.stamp,
            item.name,
            item.image,
            depth.numpy(),
            None if stddev is None else stddev.numpy(),
            item.camera,
            item.camera_info,
            item.frame_id,
            item.received_at,
            item.pose,
        )
        self.record = self._known or dataclasses.replace(
            _make_record(item, self.depth_frame, tracked, self._seconds),
            keyframe=self.keyframe,
            class_token=self._class_token,
        )

    def _fuse(self, disparity: Tensor) -> FusedDepth | None:
        """Return the depth fused with the anchors of this frame and of those before; None without any."""
        if self._history is None:
            return None
        item, tracked = self.item, self.tracked
        try:
            return self._history.fuse(
                item.stamp * 1e-9,
                disparity,
                tracked.anchors,
                tracked.scale,
                image=torch.from_numpy(item.image),
                noise=self._settings.anchor_noise,
            )
        except AnchorError:
            return None


def scale_of_record(known: FrameRecord, item: RecordedFrame) -> TrackedScale:
    """Return the scale that a frame had in a former call."""
    scale = None
    if known.scale is not None and known.shift is not None:
        scale = Scale(known.scale, known.shift, known.covariance or (0.0, 0.0, 0.0))
    return TrackedScale(scale, 0.0, item.anchors if known.anchors else None)


def _make_record(
    item: RecordedFrame, frame: DepthFrame, tracked: TrackedScale, seconds: float
) -> FrameRecord:
    valid = np.isfinite(frame.depth)
    share = float(valid.mean())
    sample = frame.depth[::4, ::4][valid[::4, ::4]]
    warnings = item.warnings + ((tracked.problem,) if tracked.problem else ())
    if tracked.scale is None and not share:
        warnings += ("no usable anchors yet: there is no scale, and no depth",)
    scale, camera = tracked.scale, frame.camera
    return FrameRecord(
        item.index,
        item.stamp,
        item.name,
        height=frame.depth.shape[0],
        width=frame.depth.shape[1],
        frame_id=item.frame_id,
        camera=_numbers(camera) if camera else None,
        pose=tuple(float(one) for one in item.pose.reshape(-1)) if item.pose is not None else None,
        scale=scale.scale if scale else None,
        shift=scale.shift if scale else None,
        covariance=scale.covariance if scale else None,
        anchors=len(tracked.anchors) if tracked.anchors else 0,
        measured=tracked.measured,
        valid=share,
        median=float(np.median(sample)) if sample.size else None,
        limits=depth_limits(frame.depth),
        seconds=seconds,
        warnings=warnings,
    )


def _numbers(camera: PinholeCamera) -> tuple[float, float, float, float]:
    return (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
