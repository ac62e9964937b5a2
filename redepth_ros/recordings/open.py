"""Open whatever a path names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from redepth_ros.core.errors import ConfigError
from redepth_ros.recordings.bag import BagOptions, open_bag
from redepth_ros.recordings.bag_reader import find_bag_files
from redepth_ros.recordings.image_files import find_images, open_image_files
from redepth_ros.recordings.images import IMAGE_SUFFIXES
from redepth_ros.recordings.recording import Recording
from redepth_ros.recordings.video import open_video

__all__ = ["open_recording"]


def open_recording(
    paths: Sequence[Path], options: BagOptions | None = None, depth_folder: Path | None = None
) -> Recording:
    """Open a rosbag2, a video, a folder of images, or images.

    Args:
        paths: one path; or several images and folders of images, in the order given.
        options: what to read of a bag.
        depth_folder: measured depth of images, see `open_image_files`.

    Raises:
        ConfigError: nothing can be read; the message says what can.
    """
    missing = [str(path) for path in paths if not path.exists()]
    if not paths or missing:
        raise ConfigError(
            f"there is no {', '.join(map(repr, missing)) or 'input'}; name a rosbag2, a video, a folder of "
            "images or images"
        )
    only = paths[0]
    if len(paths) == 1 and only.suffix.lower() not in IMAGE_SUFFIXES:
        if find_bag_files(only):
            return open_bag(only, options)
        if only.is_file():
            _reject_compressed(only)
            return open_video(only)
    images: list[Path] = []
    for path in paths:
        found = find_images(path) if path.is_dir() else [path]
        if not found:
            raise ConfigError(
                f"{str(path)!r} has neither images ({', '.join(sorted(IMAGE_SUFFIXES))}) nor a rosbag2 "
                "(metadata.yaml, .mcap or .db3) in it; name the folder that holds them"
            )
        images += found
    kind = f"{len(images)} images" if len(images) > 1 else f"the image {images[0]}"
    where = f" of {only}" if len(paths) == 1 and len(images) > 1 else ""
    return open_image_files(images, kind + where, depth_folder)


def _reject_compressed(path: Path) -> None:
    if path.name.endswith((".mcap.zstd", ".db3.zstd")):
        raise ConfigError(
            f"{str(path)!r} is one compressed file of a rosbag2; name the folder that holds it and its "
            "metadata.yaml"
        )
