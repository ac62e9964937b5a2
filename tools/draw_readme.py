#!/usr/bin/env python3
"""Draw docs/demo.png and docs/fusion.png with the embedded networks.

    ./dev run python tools/draw_readme.py [--out DIR]

Each file holds a digest of the networks; a test compares it with the present ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from redepth_ros.cli.demo.motorcycle import compare_on_motorcycle
from redepth_ros.cli.methods import align_output, refine_image
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.engine import Engine
from redepth_ros.viz.figures import plot_comparison

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "redepth_ros" / "models" / "tiny"
DIGEST_KEY = "networks"
"""Of the text in the PNG files."""
REFINEMENT = {"steps": 50, "ensemble_size": 1}
"""As in the demo."""
SHOWN = 0
"""Number of the rendered image in demo.png."""


def networks_digest() -> str:
    """Return a digest of all files of the embedded networks."""
    digest = hashlib.sha256()
    for path in sorted(NETWORKS.rglob("*.*")):
        if path.is_file():
            digest.update(str(path.relative_to(NETWORKS)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def draw_demo(engine: Engine, path: Path) -> None:
    """Draw an image with true depth, its fast and its refined depth."""
    shown = list(load_rendered_images())[SHOWN]
    settings = dataclasses.replace(engine.preset(), **REFINEMENT)
    refinement = refine_image(engine, settings, shown.image, None)
    counted = np.isfinite(shown.depth)
    depths = {
        "fast": align_output(refinement.fast, refinement.metric, shown.depth, counted),
        # Also where the refinement kept the fast depth.
        refinement.outcome.label: align_output(refinement.refined, refinement.metric, shown.depth, counted),
    }
    plot_comparison(path, shown.image, shown.depth, depths, unit="half image heights", columns=3)
    print(f"{path}: {refinement.message}")


def draw_fusion(engine: Engine, path: Path) -> None:
    """Draw Motorcycle with simulated returns of a lidar."""
    motorcycle = compare_on_motorcycle(engine, **REFINEMENT)
    motorcycle.plot(path, "embedded networks")
    errors = ", ".join(f"{name} {error:.4f}" for name, error in motorcycle.errors.items())
    print(f"{path}: {motorcycle.outcome}; AbsRel {errors}")


def write_digest(path: Path) -> None:
    """Store the digest of the networks in a PNG file."""
    with Image.open(path) as image:
        pixels = image.convert("RGB")
    text = PngInfo()
    text.add_text(DIGEST_KEY, networks_digest())
    pixels.save(path, optimize=True, pnginfo=text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the figures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    engine = Engine.load("tiny", "tiny", device="cpu")
    for name, draw in {"demo.png": draw_demo, "fusion.png": draw_fusion}.items():
        draw(engine, options.out / name)
        write_digest(options.out / name)


if __name__ == "__main__":
    main()
