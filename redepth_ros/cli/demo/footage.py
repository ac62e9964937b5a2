"""Default footage of the demo: rendered images with true depth, and between them photographs."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import cv2

from redepth_ros.data.motorcycle import load_motorcycle
from redepth_ros.data.rendered import SampleImage, image_digest, load_rendered_images
from redepth_ros.recordings.photographs import open_photographs

__all__ = ["load_known_images", "write_footage"]


def write_footage(folder: Path) -> None:
    """Write rendered images and photographs, in turn, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    photographs = [("photograph", frame.image) for frame in open_photographs().frames()]
    rendered = [(one.kind, one.image) for one in load_rendered_images()]
    pairs = zip_longest(rendered, photographs)
    images = [image for pair in pairs for image in pair if image is not None]
    for number, (kind, image) in enumerate(images):
        cv2.imwrite(str(folder / f"{number:02d}_{kind}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def load_known_images() -> dict[str, SampleImage]:
    """Return the images whose true depth is known, by their digests."""
    images = [*load_rendered_images(), SampleImage("motorcycle", *load_motorcycle())]
    return {image_digest(one.image): one for one in images}
