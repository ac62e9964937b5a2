"""Real images to train on: RGB-D pairs, views of panoramas and frames of videos, with a teacher's disparity.

Folders are named on the command line; docs/explanation/embedded_networks.md lists sources and licences.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from training.tcmonodepth import TcMonoDepth

__all__ = ["Sample", "label", "read_frames", "read_image", "read_pairs", "sample_views"]

SHORTER_SIDE = 180
"""Pixels of the shorter side of every image."""

MIN_TEACHER_CORRELATION = 0.5
"""Correlation with the measured inverse depth above which the teacher fills holes of the measurement."""

VIEW_WIDTH, VIEW_HEIGHT = 240, 180
"""Size of a view of a panorama, in pixels."""


@dataclass(frozen=True, slots=True)
class Sample:
    """An image and its disparity."""

    place: str
    """Where it was taken; images of one place are alike."""
    image: NDArray[np.uint8]
    """(h, w, 3), RGB."""
    disparity: NDArray[np.floating]
    """(h, w), NaN where unknown; 1/metres up to a factor, or up to scale and shift if `affine`."""
    affine: bool
    """Whether the shift of the disparity is unknown too."""


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> NDArray:
    """Read an image file with OpenCV; colours come as blue, green, red.

    Raises:
        FileNotFoundError: there is no such file, or it is no image.
    """
    image = cv2.imread(str(path), flags)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or no image")
    return image


def _resize(image: NDArray, interpolation: int) -> NDArray:
    height, width = image.shape[:2]
    scale = SHORTER_SIDE / min(height, width)
    size = (max(SHORTER_SIDE, round(width * scale)), max(SHORTER_SIDE, round(height * scale)))
    return cv2.resize(image, size, interpolation=interpolation)


def _measured_disparity(folder: Path, row: dict[str, str]) -> NDArray[np.float32]:
    """Return the measured disparity (h, w) of a pair, up to a factor; NaN where there is none."""
    if row["kind"] == "depth_mm":
        stored = read_image(folder / f"{row['name']}.depth.png", cv2.IMREAD_UNCHANGED)
        return np.where(stored > 0, 1000.0 / np.maximum(stored, 1), np.nan).astype(np.float32)
    stored = read_image(folder / f"{row['name']}.disparity16.png", cv2.IMREAD_UNCHANGED)
    offset = float(row["disparity_offset16"] or 0.0)
    return np.where(stored > 0, stored + offset, np.nan).astype(np.float32)


def _fill(measured: NDArray[np.float32], teacher: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill holes with the teacher's disparity, aligned to the measurement by least squares."""
    valid = np.isfinite(measured)
    if np.corrcoef(teacher[valid], measured[valid])[0, 1] < MIN_TEACHER_CORRELATION:
        return measured
    scale, shift = np.polyfit(teacher[valid], measured[valid], 1)
    low = 0.5 * float(np.nanquantile(measured, 0.02))
    return np.where(valid, measured, np.maximum(scale * teacher + shift, low)).astype(np.float32)


def read_pairs(folder: Path, split: str) -> Iterator[Sample]:
    """Read the RGB-D pairs of a split, train or validation.

    Args:
        folder: with pairs.csv and, unpacked, its archives.
        split: train (holes are filled by the teacher) or validation (measured disparity only).
    """
    with (folder / "pairs.csv").open(newline="") as table:
        rows = [row for row in csv.DictReader(table) if row["split"] == split]
    for row in rows:
        image = read_image(folder / f"{row['name']}.jpg")[..., ::-1]
        disparity = _measured_disparity(folder, row)
        if split == "train":
            stored = read_image(folder / f"{row['name']}.teacher.png", cv2.IMREAD_UNCHANGED)
            disparity = _fill(disparity, (stored / 65535.0 * float(row["teacher_max"])).astype(np.float32))
        affine = row["kind"] != "depth_mm" and not row["disparity_offset16"]
        yield Sample(
            row["place"],
            _resize(image, cv2.INTER_LINEAR),
            _resize(disparity, cv2.INTER_NEAREST),
            affine,
        )


def read_frames(folder: Path, every: int = 4) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Yield place and image of all JPEG files of a folder, and of each `every`-th frame of its videos."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".jpg":
            yield path.stem, _resize(read_image(path)[..., ::-1], cv2.INTER_AREA)
        elif path.suffix == ".mp4":
            video, number = cv2.VideoCapture(str(path)), 0
            while (found := video.read())[0]:
                if number % every == 0:
                    yield path.stem, _resize(found[1][..., ::-1], cv2.INTER_AREA)
                number += 1


def _tone_map(panorama: NDArray[np.float32], exposure: float) -> NDArray[np.uint8]:
    """Turn linear light into bytes: the median becomes `exposure`, bright light is compressed."""
    light = panorama * (exposure / max(1e-6, float(np.median(panorama))))
    return (255.0 * np.clip(light / (1.0 + 0.25 * light), 0.0, 1.0) ** (1 / 2.2)).astype(np.uint8)


def sample_views(folder: Path, count: int, seed: int) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Draw perspective views of each panorama (.hdr, equirectangular) of a folder: place and image."""
    rng = np.random.default_rng([seed, 0x9A0])
    rows, columns = np.mgrid[0:VIEW_HEIGHT, 0:VIEW_WIDTH].astype(np.float32)
    for path in sorted(folder.glob("*.hdr")):
        panorama = read_image(path, cv2.IMREAD_UNCHANGED)[..., ::-1]
        height, width = panorama.shape[:2]
        for _ in range(count):
            focal = 0.5 * VIEW_WIDTH / math.tan(0.5 * math.radians(rng.uniform(50.0, 95.0)))
            x, y = (columns - 0.5 * (VIEW_WIDTH - 1)) / focal, (rows - 0.5 * (VIEW_HEIGHT - 1)) / focal
            roll, pitch = math.radians(rng.normal(0.0, 3.0)), math.radians(rng.normal(8.0, 12.0))
            x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)
            forward, down = math.cos(pitch) - y * math.sin(pitch), y * math.cos(pitch) + math.sin(pitch)
            yaw = np.arctan2(x, forward) + rng.uniform(-math.pi, math.pi)
            u = (yaw / (2 * math.pi) + 0.5) * width
            v = (np.arctan2(down, np.hypot(x, forward)) / math.pi + 0.5) * height
            image = _tone_map(panorama, float(np.exp(rng.uniform(np.log(0.12), np.log(0.5)))))
            yield (
                path.stem,
                cv2.remap(
                    image,
                    u.astype(np.float32),
                    v.astype(np.float32),
                    cv2.INTER_LINEAR,
                    borderMode=cv2.BORDER_WRAP,
                ),
            )


@torch.inference_mode()
def label(teacher: TcMonoDepth, image: NDArray[np.uint8], sides: tuple[int, ...]) -> NDArray[np.float32]:
    """Return the teacher's relative disparity (h, w): mean over input sizes and mirrored images."""
    found = []
    for side in sides:
        teacher.shorter_side = side
        pixels = teacher.preprocess(image)  # (1, 3, r, c)
        disparity = teacher.decode(teacher.encode(torch.cat((pixels, pixels.flip(-1)))))  # (2, r, c)
        both = torch.stack((disparity[0], disparity[1].flip(-1)))
        found.append(interpolate(both[None], image.shape[:2], mode="bilinear")[0].mean(dim=0))
    return torch.stack(found).mean(dim=0).numpy()
