"""Records of processed frames."""

from __future__ import annotations

import numpy as np

from redepth_ros.cli.process.scale_tracker import TrackedScale
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metric.scale import Scale
from redepth_ros.exports.frames import DepthFrame, FrameRecord
from redepth_ros.recordings.recording import RecordedFrame

__all__ = ["make_record", "scale_of_record"]


def scale_of_record(known: FrameRecord, item: RecordedFrame) -> TrackedScale:
    """Return the scale that a frame had in a former call."""
    scale = None
    if known.scale is not None and known.shift is not None:
        scale = Scale(known.scale, known.shift, known.covariance or (0.0, 0.0, 0.0))
    return TrackedScale(scale, 0.0, item.anchors if known.anchors else None)


def make_record(item: RecordedFrame, frame: DepthFrame, tracked: TrackedScale, seconds: float) -> FrameRecord:
    """Return the record of a frame; `seconds` is the time from the decoded image to the depth."""
    valid = np.isfinite(frame.depth)
    share = float(valid.mean())
    sample = frame.depth[::4, ::4][valid[::4, ::4]]
    warnings = item.warnings + ((tracked.problem,) if tracked.problem else ())
    if tracked.scale is None:
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
        seconds=seconds,
        warnings=warnings,
    )


def _numbers(camera: PinholeCamera) -> tuple[float, float, float, float]:
    return (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
