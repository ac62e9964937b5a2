#!/usr/bin/env python3
"""Draw docs/fusion.png, the README's figure, with the embedded networks.

    ./dev run python tools/draw_readme.py [--out DIR]

The file holds a digest of the networks; a test compares it with the present ones.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from redepth_ros.cli.demo.motorcycle import compare_on_motorcycle
from redepth_ros.models.engine import Engine

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "redepth_ros" / "models" / "tiny"
DIGEST_KEY = "networks"
"""Of the text in the PNG file."""
REFINEMENT = {"steps": 50, "ensemble_size": 1}
"""As in the demo."""


def networks_digest() -> str:
    """Return a digest of all files of the embedded networks."""
    digest = hashlib.sha256()
    for path in sorted(NETWORKS.rglob("*.*")):
        if path.is_file():
            digest.update(str(path.relative_to(NETWORKS)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


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
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of the figure")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "fusion.png"
    draw_fusion(Engine.load("tiny", "tiny", device="cpu"), path)
    write_digest(path)


if __name__ == "__main__":
    main()
