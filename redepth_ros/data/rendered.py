"""Five rendered images with their exact depth, made by training/render_sample_images.py.

Their seeds were used neither to train nor to tune the embedded networks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["IMAGES", "SampleImage", "image_digest", "load_rendered_images", "save_rendered_image"]

IMAGES = Path(__file__).parent / "images"

DEPTH_UNIT = 1e-4
"""Metres (or half image heights of a relief) that one step of the 16-bit depth files is worth."""


@dataclass(frozen=True)
class SampleImage:
    """An image and its true depth."""

    kind: str
    """What the image shows, for example "relief"."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB."""
    depth: NDArray[np.float32]
    """(H, W), NaN where unknown; metres, or half image heights of a relief."""


def image_digest(image: NDArray[np.uint8]) -> str:
    """Return a key that identifies the pixels of an image (H, W, 3)."""
    return hashlib.sha1(np.ascontiguousarray(image).data).hexdigest()


def load_rendered_images() -> Iterator[SampleImage]:
    """Yield the images in the order of their numbers."""
    for path in sorted(IMAGES.glob("?_*_depth.png")):
        name = path.stem.removesuffix("_depth")
        image = cv2.cvtColor(cv2.imread(str(path.with_name(f"{name}.png"))), cv2.COLOR_BGR2RGB)
        steps = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.float32)
        yield SampleImage(name.split("_")[1], np.asarray(image, np.uint8), steps * np.float32(DEPTH_UNIT))


def save_rendered_image(number: int, rendered: SampleImage, folder: Path = IMAGES) -> None:
    """Write an image and its depth, which must be finite and below 6.5, as two PNG files."""
    name = f"{number}_{rendered.kind}"
    cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(rendered.image, cv2.COLOR_RGB2BGR))
    stored = (rendered.depth / DEPTH_UNIT).round()
    if not (stored > 0).all() or stored.max() > np.iinfo(np.uint16).max:
        raise ValueError(f"{name}: its depth does not fit into 16 bits of {DEPTH_UNIT} m")
    cv2.imwrite(str(folder / f"{name}_depth.png"), stored.astype(np.uint16))
