"""Open a rosbag2 by rosbags, and decode its messages."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.recordings.messages.images import image_from_compressed, image_from_fields
from redepth_ros.recordings.order import natural_key

__all__ = ["decode", "find_bag_files", "header_stamp", "open_reader"]


def find_bag_files(path: Path) -> list[Path]:
    """Return what a rosbag2 consists of for rosbags: its folder, or its files.

    Returns:
        Empty if the path is no rosbag2.
    """
    if path.is_file():
        return [path] if path.suffix in (".mcap", ".db3") else []
    if not path.is_dir():
        return []
    if (path / "metadata.yaml").is_file():
        return [path]
    files = [one for one in path.iterdir() if one.suffix in (".mcap", ".db3") and one.is_file()]
    return sorted(files, key=lambda one: natural_key(one.name))


def open_reader(paths: Sequence[Path]) -> Any:
    """Return an opened rosbags reader.

    A folder whose metadata can't be used is read by its files, and an mcap file without an end by what
    is complete of it.

    Raises:
        ConfigError: the bag can't be read.
    """
    from rosbags.highlevel import AnyReader

    from redepth_ros.recordings.truncated_mcap import tolerate_truncation

    tolerate_truncation()
    from rosbags.typesys import Stores, get_typestore

    def attempt(files: Sequence[Path]) -> Any:
        # Bags of ROS 2 up to Humble don't contain their message definitions.
        reader = AnyReader(list(files), default_typestore=get_typestore(Stores.ROS2_HUMBLE))
        reader.open()
        return reader

    try:
        return attempt(paths)
    except Exception as error:  # rosbags raises errors of SQLite, YAML, zstd and its own
        folder = paths[0]
        files = (
            [one for one in folder.glob("*") if one.suffix in (".mcap", ".db3")] if folder.is_dir() else []
        )
        if files:
            with suppress(Exception):
                return attempt(sorted(files, key=lambda one: natural_key(one.name)))
        raise ConfigError(f"{str(folder)!r} can't be read as a rosbag2: {error}") from error


def decode(message: Any) -> NDArray[np.uint8]:
    """Return the image of an Image or a CompressedImage, (H, W, 3) RGB.

    Raises:
        ImageError: it can't be decoded.
    """
    if hasattr(message, "encoding"):
        return image_from_fields(message)
    if "compressedDepth" in message.format:
        raise ImageError(
            "the message holds compressedDepth, not an image; name the topic of the images (--topic)"
        )
    return image_from_compressed(message.data)


def header_stamp(raw: bytes | memoryview) -> int:
    """Return the stamp of a serialised message that starts with a header, nanoseconds."""
    order = "<" if raw[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(f"{order}iI", raw, 4)
    return int(seconds) * 10**9 + int(nanoseconds)
