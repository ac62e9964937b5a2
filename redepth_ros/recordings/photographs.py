"""The photographs in scikit-image's wheel as a recording."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from redepth_ros.data import motorcycle
from redepth_ros.recordings.image_files import IMAGE_RATE
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection

__all__ = ["PHOTOGRAPHS", "open_photographs"]

PHOTOGRAPHS = ("stereo_motorcycle", "coffee", "astronaut", "chelsea", "rocket", "camera")
"""Names of scikit-image's functions."""


def open_photographs() -> Recording:
    """Open the photographs; the calibration of the first one is known."""
    image, _ = motorcycle.load_motorcycle()
    return Recording(
        "photographs of scikit-image",
        "images",
        (image.shape[0], image.shape[1]),
        IMAGE_RATE,
        _read,
        count=len(PHOTOGRAPHS),
    )


def _read(selection: Selection) -> Iterator[RecordedFrame]:
    import skimage.data

    picker = selection.picker()
    for index, name in enumerate(PHOTOGRAPHS):
        stamp = round(index * 1e9 / IMAGE_RATE)
        if not picker.is_wanted(index, stamp):
            continue
        if name == "stereo_motorcycle":
            image, camera = motorcycle.load_motorcycle()[0], motorcycle.CAMERA
            yield RecordedFrame(index, stamp, name, image, camera)
            continue
        image = getattr(skimage.data, name)()
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        yield RecordedFrame(index, stamp, name, np.ascontiguousarray(image[..., :3]))
