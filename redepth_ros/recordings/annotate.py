"""Give a recording calibrations, poses and anchors that lie beside it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_points
from redepth_ros.recordings.calibration import ColmapModel, ColmapView
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame
from redepth_ros.recordings.transforms import invert, transform_points

__all__ = ["with_camera", "with_colmap"]


def with_camera(recording: Recording, camera: PinholeCamera, source: str) -> Recording:
    """Return the recording with a calibration for all frames, in place of its own.

    Frames of another size with the same aspect ratio get the calibration at their size.

    Raises:
        ConfigError: the calibration is for another aspect ratio.
    """
    fitted = _fit(camera, *recording.size)
    if fitted is None:
        raise ConfigError(
            f"the calibration of {source} is for {camera.width}x{camera.height} pixels, the images have "
            f"{recording.size[1]}x{recording.size[0]}: give the calibration of these images"
        )
    facts = [fact for fact in recording.facts if fact[0] != "calibration"]
    return dataclasses.replace(
        recording, read=_WithCamera(recording, camera).read, facts=(*facts, ("calibration", source))
    )


def _fit(camera: PinholeCamera, height: int, width: int) -> PinholeCamera | None:
    """Return the camera at another size of the same aspect ratio; None for another aspect ratio."""
    if abs(camera.width * height - camera.height * width) > max(camera.width, width):
        return None
    return camera if (camera.height, camera.width) == (height, width) else camera.resized(width, height)


@dataclass(frozen=True)
class _WithCamera:
    recording: Recording
    camera: PinholeCamera

    def read(self, selection: Selection) -> Iterator[RecordedFrame | UnreadableFrame]:
        for frame in self.recording.read(selection):
            if isinstance(frame, RecordedFrame):
                camera = _fit(self.camera, *frame.image.shape[:2])
                warnings = frame.warnings
                if camera is None:
                    warnings = (*warnings, "calibration is not used: the image has another size")
                frame = dataclasses.replace(frame, camera=camera, camera_info=None, warnings=warnings)
            yield frame


def with_colmap(recording: Recording, model: ColmapModel) -> Recording:
    """Return the recording with calibrations, poses and anchors of a COLMAP model.

    The anchors are the model's points that were seen in the image: depth then is in the model's unit.

    Raises:
        ConfigError: none of the images is in the model.
    """
    reader = _WithColmap(recording, {_stem(name): view for name, view in model.views.items()})
    found = sum(isinstance(frame, RecordedFrame) for frame in _names(recording, reader))
    if not found:
        names = ", ".join(list(model.views)[:3])
        raise ConfigError(
            f"none of the images is in the COLMAP model {str(model.folder)!r}; it has: {names} ...: name the "
            "images that it was made of"
        )
    distorted = any(view.distorted for view in model.views.values())
    note = (
        " (with distortion, which is not applied: undistort the images by COLMAP first)" if distorted else ""
    )
    facts = [fact for fact in recording.facts if fact[0] not in ("calibration", "anchors")]
    source = f"COLMAP model {model.folder}{note}"
    return dataclasses.replace(
        recording,
        read=reader.read,
        facts=(*facts, ("calibration", source), ("anchors", f"points of the {source}"), ("poses", source)),
    )


def _names(recording: Recording, reader: _WithColmap) -> Iterator[RecordedFrame | UnreadableFrame]:
    """Yield the first frame that is in the model."""
    for frame in recording.read(Selection()):
        if isinstance(frame, RecordedFrame) and reader.view(frame.name) is not None:
            yield frame
            return


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1].rsplit(".", 1)[0]


@dataclass(frozen=True)
class _WithColmap:
    recording: Recording
    views: dict[str, ColmapView]

    def view(self, name: str) -> ColmapView | None:
        return self.views.get(name)

    def read(self, selection: Selection) -> Iterator[RecordedFrame | UnreadableFrame]:
        for frame in self.recording.read(selection):
            if not isinstance(frame, RecordedFrame):
                yield frame
                continue
            view = self.view(frame.name)
            if view is None:
                yield dataclasses.replace(frame, warnings=(*frame.warnings, "not in the COLMAP model"))
                continue
            camera, warnings = _fit(view.camera, *frame.image.shape[:2]), frame.warnings
            anchors: Anchors | None = None
            try:
                anchors = _anchors(view, camera)
            except AnchorError as error:
                warnings = (*warnings, f"anchors are not used: {error}")
            yield dataclasses.replace(
                frame, camera=camera, camera_info=None, anchors=anchors, pose=view.pose, warnings=warnings
            )


def _anchors(view: ColmapView, camera: PinholeCamera | None) -> Anchors:
    if camera is None:
        raise AnchorError(
            "the image has another aspect ratio than in the COLMAP model; use the images that it was made of"
        )
    return anchors_from_points(transform_points(invert(view.pose), view.points), camera)
