"""A folder, a list or a single one of image files as a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from redepth_ros.core.errors import AnchorError, ConfigError, ImageError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.recordings.depth_files import read_depth_file
from redepth_ros.recordings.images import IMAGE_SUFFIXES, read_image, read_image_size
from redepth_ros.recordings.order import natural_key, stamps_from_names
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame

__all__ = ["IMAGE_RATE", "find_images", "open_image_files"]

IMAGE_RATE = 10.0
"""Frames per second of image files, which have no times of their own."""

NANOSECONDS = 10**9


def find_images(folder: Path) -> list[Path]:
    """Return the images of a folder in natural order; hidden files and folders inside are left out."""
    entries = (entry for entry in folder.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES)
    found = [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]
    return sorted(found, key=lambda path: natural_key(path.name))


def open_image_files(paths: Sequence[Path], description: str, depth_folder: Path | None = None) -> Recording:
    """Open image files as a recording, in the order given.

    Args:
        paths: of the images.
        description: of their source.
        depth_folder: holds measured depth of the images, 16-bit PNG in millimetres or .npy in metres,
            with the names of the images; None for none.

    Raises:
        ConfigError: there are no images, or no depth of any.
    """
    if not paths:
        raise ConfigError("there are no images to read")
    if depth_folder is not None and not any(_depth_file(depth_folder, path) for path in paths):
        raise ConfigError(
            f"anchors: {str(depth_folder)!r} holds no depth (PNG or npy) with the name of an image, such as "
            f"{paths[0].stem}.png; rename the files, or name another folder"
        )
    names = _unique_names(paths)
    stamps = stamps_from_names([path.stem for path in paths])
    facts = [("images", f"{len(paths)}")]
    if stamps is None:
        stamps = [round(index * NANOSECONDS / IMAGE_RATE) for index in range(len(paths))]
        facts.append(("stamps", f"none in the names: {IMAGE_RATE:g} frames per second are assumed"))
    else:
        facts.append(("stamps", "by the names of the files"))
    if depth_folder is not None:
        count = sum(_depth_file(depth_folder, path) is not None for path in paths)
        facts.append(("anchors", f"depth of {count} images in {depth_folder}"))
    reader = _ImageFiles(tuple(paths), tuple(names), tuple(stamps), depth_folder)
    return Recording(
        description,
        "images",
        _first_size(paths),
        _rate(stamps),
        reader.read,
        count=len(paths),
        facts=tuple(facts),
    )


@dataclass(frozen=True)
class _ImageFiles:
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    stamps: tuple[int, ...]
    depth_folder: Path | None

    def read(self, selection: Selection) -> Iterator[RecordedFrame | UnreadableFrame]:
        picker = selection.picker()
        for index, (path, name, stamp) in enumerate(zip(self.paths, self.names, self.stamps, strict=True)):
            if not picker.is_wanted(index, stamp):
                continue
            try:
                image = read_image(path)
            except ImageError as error:
                yield UnreadableFrame(index, name, str(error))
                continue
            anchors, warnings = self._anchors(path, *image.shape[:2])
            yield RecordedFrame(index, stamp, name, image, anchors=anchors, warnings=warnings)

    def _anchors(self, path: Path, height: int, width: int) -> tuple[Anchors | None, tuple[str, ...]]:
        file = _depth_file(self.depth_folder, path) if self.depth_folder else None
        if file is None:
            return None, ()
        try:
            return anchors_from_depth(read_depth_file(file)).resized(height, width), ()
        except (AnchorError, ImageError) as error:
            return None, (f"anchors are not used: {error}",)


def _depth_file(folder: Path, image: Path) -> Path | None:
    candidates = (folder / f"{image.stem}{suffix}" for suffix in (".png", ".npy"))
    return next((one for one in candidates if one.is_file()), None)


def _unique_names(paths: Sequence[Path]) -> list[str]:
    """Return the stems; a repeated one gets a number."""
    names: list[str] = []
    taken: set[str] = set()
    for stem in (path.stem for path in paths):
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name)
        names.append(name)
    return names


def _first_size(paths: Sequence[Path]) -> tuple[int, int]:
    """Return the size of the first image that can be read.

    Raises:
        ConfigError: none can be.
    """
    reason = ""
    for path in paths:
        try:
            return read_image_size(path)
        except ImageError as error:
            reason = reason or str(error)
    raise ConfigError(f"none of {len(paths)} images can be read: {reason}")


def _rate(stamps: Sequence[int]) -> float:
    steps = np.diff(np.array(stamps[:200], np.int64))
    typical = float(np.median(steps)) if len(steps) else 0.0
    return NANOSECONDS / typical if typical > 0 else 0.0
