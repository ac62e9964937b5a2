"""Default footage of the demo: photographs and, between them, rendered images with true depth."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.data.motorcycle import load_motorcycle
from redepth_ros.data.rendered import image_digest, load_rendered_images
from redepth_ros.ros.streams.footage import open_footage

__all__ = ["load_true_depths", "write_footage"]


def write_footage(folder: Path) -> None:
    """Write photographs and rendered images, in turn, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    photographs = [("photograph", shot.image) for shot in open_footage("").shots()]
    rendered = [(one.kind, one.image) for one in load_rendered_images()]
    pairs = zip_longest(photographs, rendered)
    images = [image for pair in pairs for image in pair if image is not None]
    for number, (kind, image) in enumerate(images):
        cv2.imwrite(str(folder / f"{number:02d}_{kind}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def load_true_depths() -> dict[str, NDArray[np.float32]]:
    """Return the known true depths (H, W), NaN where not measured, by the digest of the image."""
    depths = {image_digest(one.image): one.depth for one in load_rendered_images()}
    photograph, depth = load_motorcycle()
    depths[image_digest(photograph)] = depth
    return depths
