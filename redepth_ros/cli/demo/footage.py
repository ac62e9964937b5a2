"""The demo's own footage: photographs, and between them rendered scenes whose depth is known."""

from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.ros.streams.footage import open_footage
from training.scenes.relief import draw_relief
from training.scenes.render import Rendering, render
from training.scenes.textures import atlas
from training.scenes.worlds import draw_scene

__all__ = ["digest_of", "write_footage"]

ROOMS, RELIEFS = (97_000_000, 97_000_003), (62_000_000, 62_000_001, 62_000_002)
"""Seeds that were used neither for training nor for tuning."""
HELD_OUT_ATLAS = 1


def digest_of(image: NDArray[np.uint8]) -> str:
    """A short name for exactly this picture, (H, W, 3)."""
    return hashlib.sha1(np.ascontiguousarray(image).data).hexdigest()


def write_footage(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Write photographs and rendered scenes, in turns, as PNG files.

    Returns:
        The true depth (H, W) of the rendered ones, infinite in the sky, by `digest_of`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    textures = atlas(HELD_OUT_ATLAS)
    rendered: list[tuple[str, Rendering]] = []
    for room, relief in zip((*ROOMS, None), RELIEFS, strict=True):
        rendered.append(("relief", draw_relief(relief, textures, side=160)))
        if room is not None:
            scene = draw_scene(room, len(textures[0]), 320, 240)
            rendered.append((scene.kind, render(scene, textures)))
    truths: dict[str, NDArray[np.float64]] = {}
    pictures = [("photograph", shot.image) for shot in open_footage("").shots()]
    ordered: list[tuple[str, NDArray[np.uint8]]] = []
    for index, photograph in enumerate(pictures):
        ordered.append(photograph)
        if index < len(rendered):
            kind, rendering = rendered[index]
            image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
            truths[digest_of(image)] = rendering.depth.numpy().astype(np.float64)
            ordered.append((kind, image))
    for index, (kind, image) in enumerate(ordered):
        cv2.imwrite(str(folder / f"{index:02d}_{kind}.png"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return truths
