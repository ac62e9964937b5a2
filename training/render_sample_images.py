#!/usr/bin/env python3
"""Render the five sample images of the package with their true depth.

    ./dev run python -m training.render_sample_images

They are what `redepth demo` shows between photographs. A test compares two of them with what the
renderer gives today.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from redepth_ros.core.images import to_uint8
from redepth_ros.data.rendered import IMAGES, SampleImage, save_rendered_image
from training.scenes.relief import sample_relief
from training.scenes.render import Rendering, render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

RELIEFS, WORLDS = (62_000_000, 62_000_001, 62_000_002), (97_000_000, 97_000_003)
"""Seeds that were used neither for training nor for tuning."""

TEXTURES = 1
"""Seed of the textures; training uses 0."""


def render_sample_images() -> Iterator[SampleImage]:
    """Yield the images in turn, a relief first."""
    textures = atlas(TEXTURES)
    for relief, world in zip(RELIEFS, (*WORLDS, None), strict=True):
        yield _pack("relief", sample_relief(relief, textures, side=160))
        if world is not None:
            scene = sample_scene(world, len(textures[0]), 320, 240)
            yield _pack(scene.kind, render(scene, textures))


def _pack(kind: str, rendering: Rendering) -> SampleImage:
    image = to_uint8(rendering.image.permute(1, 2, 0).numpy())
    return SampleImage(kind, image, rendering.depth.numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder to write into")
    options = parser.parse_args()
    for number, rendered in enumerate(render_sample_images(), 1):
        save_rendered_image(number, rendered, options.out)
        print(f"{number}: {rendered.kind}")


if __name__ == "__main__":
    main()
