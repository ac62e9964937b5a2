"""Open the input of a command with the calibration, poses and anchors that the options name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.annotate import with_camera, with_colmap
from redepth_ros.recordings.bag import BagOptions
from redepth_ros.recordings.calibration import camera_from_numbers, camera_from_yaml, read_colmap
from redepth_ros.recordings.open import open_recording
from redepth_ros.recordings.recording import Recording

__all__ = ["InputOptions", "open_input"]


@dataclass(frozen=True)
class InputOptions:
    """What belongs to the input; empty where not given."""

    topic: str = ""
    anchors: str = "auto"
    """auto, none, depth, points, a topic of the bag, or a folder with measured depth of the images."""
    anchor_tolerance: float = 0.05
    fixed_frame: str = ""
    poses: str = "auto"
    camera_info: str = ""
    """File of a calibration."""
    intrinsics: str = ""
    """fx,fy,cx,cy."""
    colmap: str = ""
    """Folder of a COLMAP model."""


def open_input(paths: list[Path], options: InputOptions) -> tuple[Recording, str]:
    """Open a recording.

    Returns:
        The recording, and where its scale comes from: none or anchors.

    Raises:
        ConfigError: the input can't be read, or an option does not fit it.
    """
    given = [name for name in ("camera_info", "intrinsics", "colmap") if getattr(options, name)]
    if len(given) > 1:
        named = " and ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{named} are given; give one of them")
    if options.anchors == "height":
        raise ConfigError(
            "--anchors is 'height'; leave it out, and give redepth process the option --camera-height"
        )
    depth_folder = Path(options.anchors) if Path(options.anchors).is_dir() else None
    bag = BagOptions(
        options.topic,
        "none" if depth_folder else options.anchors,
        options.anchor_tolerance,
        options.fixed_frame,
        options.poses,
    )
    recording = open_recording(paths, bag, depth_folder)
    if recording.kind != "bag":
        _check_options_of_bags(options, recording)
    if depth_folder and recording.kind != "images":
        raise ConfigError(
            f"--anchors is the folder {options.anchors!r}, which is for images; the input is "
            f"{recording.description}"
        )
    if options.camera_info:
        camera = camera_from_yaml(Path(options.camera_info))
        recording = with_camera(recording, camera, options.camera_info)
    elif options.intrinsics:
        height, width = recording.size
        camera = camera_from_numbers(options.intrinsics, height, width)
        _check_inside(camera, options.intrinsics)
        recording = with_camera(recording, camera, f"--intrinsics {options.intrinsics}")
    elif options.colmap:
        recording = with_colmap(recording, read_colmap(Path(options.colmap)))
    fact = dict(recording.facts).get("anchors", "none")
    return recording, "none" if fact.startswith("none") else "anchors"


def _check_inside(camera: PinholeCamera, text: str) -> None:
    if not (0 <= camera.cx <= camera.width and 0 <= camera.cy <= camera.height):
        raise ConfigError(
            f"--intrinsics is {text}: the principal point is outside of the image of "
            f"{camera.width}x{camera.height} pixels; give fx,fy,cx,cy for images of this size"
        )


def _check_options_of_bags(options: InputOptions, recording: Recording) -> None:
    given = [name for name in ("topic", "fixed_frame") if getattr(options, name)]
    if options.anchors in ("depth", "points"):
        given.append("anchors")
    if given:
        named = ", ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"{named}: for bags only, and the input is {recording.description}; leave it out")
    if options.anchors not in ("auto", "none") and not Path(options.anchors).is_dir():
        raise ConfigError(
            f"--anchors is {options.anchors!r}; for {recording.kind} it must be none or a folder with "
            "measured depth"
        )
