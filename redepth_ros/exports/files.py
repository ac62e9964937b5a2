"""Write files, with errors that name them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import RedepthError
from redepth_ros.exports.frames import FrameRecord, rounded

__all__ = [
    "ExportError",
    "encode_image",
    "make_folder",
    "to_uint16",
    "write_bytes",
    "write_image",
    "write_json",
    "write_table",
    "write_text",
    "writing",
]

PNG_LEVEL = 1
"""A tenth larger than the default level, and three times as fast."""
MAX_UINT16 = 65_535


class ExportError(RedepthError):
    """A result can't be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors of the block, which writes a path, into errors that name it.

    Raises:
        ExportError: the disk is full, or the path is not writable.
    """
    try:
        yield
    except OSError as error:
        raise ExportError(f"{str(path)!r} can't be written: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder for results, unless it exists; call this before the work whose results it takes.

    Raises:
        ExportError: it can't be made, or no file can be made in it.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file; its folder is made.

    Raises:
        ExportError: the disk is full, or the folder is not writable.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, see `write_bytes`."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def write_image(path: Path, image: NDArray[Any]) -> None:
    """Write an image file by its suffix, see `write_bytes` and `encode_image`."""
    write_bytes(path, encode_image(path.suffix, image))


def encode_image(suffix: str, image: NDArray[Any]) -> bytes:
    """Return the content of an image file.

    Args:
        suffix: .png or .jpg.
        image: (H, W) uint8 or uint16, or (H, W, 3) RGB.
    """
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL] if suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 92]
    encoded, data = cv2.imencode(suffix, image, options)
    if not encoded:
        raise ExportError(f"an image of shape {image.shape} can't be encoded as {suffix}")
    return data.tobytes()


def to_uint16(depth: NDArray[np.floating[Any]], factor: float) -> NDArray[np.uint16]:
    """Return depth x factor, rounded; 0 where it is invalid or does not fit into 16 bits."""
    with np.errstate(invalid="ignore"):
        values = np.round(np.nan_to_num(depth, nan=0.0, posinf=0.0, neginf=0.0) * factor)
        return np.where((values >= 1) & (values <= MAX_UINT16), values, 0).astype(np.uint16)


TABLE = (
    "index",
    "stamp",
    "name",
    "width",
    "height",
    "fx",
    "fy",
    "cx",
    "cy",
    "scale",
    "shift",
    "scale_stddev",
    "anchors",
    "valid",
    "median_depth",
    "seconds",
    "keyframe",
    "outcome",
    "refine_seconds",
    "warnings",
    "failure",
)


def write_table(path: Path, records: Iterable[FrameRecord]) -> None:
    """Write the table of frames as CSV, see `write_bytes`."""
    rows: list[Sequence[Any]] = []
    for one in records:
        camera = [rounded(value) for value in one.camera] if one.camera else [""] * 4
        rows.append(
            [
                one.index,
                one.seconds_of_stamp,
                one.name,
                one.width or "",
                one.height or "",
                *camera,
                rounded(one.scale),
                rounded(one.shift),
                rounded(one.scale_stddev, 4),
                one.anchors,
                f"{one.valid:.4f}",
                rounded(one.median),
                f"{one.seconds:.4f}",
                int(one.keyframe),
                one.outcome,
                f"{one.refine_seconds:.2f}" if one.outcome else "",
                "; ".join(one.warnings),
                one.failure,
            ]
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(TABLE)
            writer.writerows(rows)
    except OSError as error:
        raise ExportError(f"{str(path)!r} can't be written: {error.strerror or error}") from error
