"""Pictures with measured depth, from the folders in which data sets are handed out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.images import rgb_bytes

__all__ = ["FARTHEST", "Pair", "read_pairs", "read_picture"]

FARTHEST = 80.0
"""Metres beyond which measured depth is not counted, as is usual for KITTI."""

MOTORCYCLE = (0.193001 * 994.978, 31.086)
"""Baseline (metres) x focal length, and the offset of the disparity, of Middlebury's Motorcycle."""

DIODE = Intrinsics(886.81, 886.81, 512.0, 384.0, 1024, 768)
"""Calibration that DIODE's authors give for all of its pictures."""

NYU = Intrinsics(518.8579, 519.46961, 325.58245, 253.73617, 640, 480)
"""Calibration of NYU Depth V2's colour camera, from its toolbox."""

BLURRED = ("kinect", "xtion", "realsense", "rgb-d", "sensor", "lidar")
"""What an index.csv's column ground_truth says of depth with holes or smears at edges."""

LAYOUTS = (
    "an index.csv; KITTI's depth selection (image/ and groundtruth_depth/); DIODE (*_depth.npy); ETH3D "
    "(images/ and ground_truth_depth/); NYU Depth V2 (nyu_depth_v2_labeled.mat, or rgb_* beside "
    "sync_depth_*.png)"
)

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """A picture and what was measured of it; both are read when they are asked for."""

    name: str
    folder: Path
    """Where the picture lies."""
    image: Callable[[], NDArray[np.uint8]]
    """(H, W, 3) RGB bytes."""
    depth: Callable[[], Depth]
    """(H, W) along the optical axis, NaN where not measured."""
    intrinsics: Intrinsics | None = None
    metric: bool = True
    """Whether the depth is in metres; if not, it is a multiple of them."""
    sharp: bool = True
    """Whether its edges are measured well enough to judge others by."""


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) RGB bytes.

    Raises:
        ImageError: no such file, or one that OpenCV can't read.
    """
    if not path.is_file():
        raise ImageError(f"there is no picture {str(path)!r}")
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ImageError(f"{str(path)!r} is not a picture that OpenCV can read; convert it to PNG or JPEG")
    if stored.ndim == 3:
        order = cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB
        stored = cv2.cvtColor(stored, order)
    return rgb_bytes(stored)


def read_pairs(place: Path) -> list[Pair]:
    """The pairs of a data set, in the order of their names.

    Args:
        place: a folder, an index.csv or nyu_depth_v2_labeled.mat; see LAYOUTS.

    Raises:
        ConfigError: nothing there that is known, or a pair without its other half.
    """
    if not place.exists():
        raise ConfigError(f"there is no {str(place)!r}; name the folder of a data set: {LAYOUTS}")
    for find in (_of_index, _of_kitti, _of_diode, _of_eth3d, _of_nyu_file, _of_nyu_folder):
        found = list(find(place))
        if found:
            return sorted(found, key=lambda pair: pair.name)
    raise ConfigError(f"{str(place)!r} holds no pairs of picture and depth that are known: {LAYOUTS}")


def _of_index(place: Path) -> Iterator[Pair]:
    index = place / "index.csv" if place.is_dir() else place
    if index.suffix != ".csv" or not index.is_file():
        return
    with index.open(newline="") as stream:
        for row in csv.DictReader(stream):
            try:
                yield _pair_of_row(index.parent, row)
            except (KeyError, ValueError) as error:
                raise ConfigError(
                    f"{index}: the line of {row.get('name')!r} can't be used ({type(error).__name__}: "
                    f"{error}); it needs name, rgb, depth, kind and png_scale"
                ) from error


def _pair_of_row(folder: Path, row: dict[str, str]) -> Pair:
    name, scale, metric = row["name"], float(row["png_scale"]), True
    image, truth = folder / row["rgb"], folder / row["depth"]
    camera = None
    if row.get("fx"):
        fx, fy, cx, cy = (float(row[key]) for key in ("fx", "fy", "cx", "cy"))
        camera = Intrinsics(fx, fy, cx, cy, int(row["width"]), int(row["height"]))
    read = partial(_read_png, truth, scale)
    if row["kind"] == "disparity":
        factor, offset = MOTORCYCLE if name == "middlebury_motorcycle" else (100.0, 0.0)
        metric = name == "middlebury_motorcycle"
        read = partial(_read_disparity, truth, scale, factor, offset)
    elif row["kind"] != "depth":
        raise ValueError(f"kind is {row['kind']!r}; it must be depth or disparity")
    sharp = not any(word in (row.get("ground_truth") or "").lower() for word in BLURRED)
    return Pair(name, image.parent, partial(read_picture, image), read, camera, metric, sharp)


def _read_disparity(path: Path, scale: float, factor: float, offset: float) -> Depth:
    return np.float32(factor) / (_read_png(path, scale) + np.float32(offset))


def _read_png(path: Path, scale: float) -> Depth:
    """A 16-bit PNG as value / scale, NaN where 0."""
    stored = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim != 2:
        raise ImageError(f"{str(path)!r} is not a depth PNG of one channel")
    return np.where(stored > 0, stored.astype(np.float32) / np.float32(scale), np.float32(np.nan))


def _of_kitti(place: Path) -> Iterator[Pair]:
    for image in sorted(place.glob("**/image/*.png")):
        name = image.name.replace("_image_", "_groundtruth_depth_", 1)
        truth = image.parents[1] / "groundtruth_depth" / name
        if not truth.is_file():
            continue
        camera = None
        calibration = image.parents[1] / "intrinsics" / f"{image.stem}.txt"
        if calibration.is_file():
            values = [float(word) for word in calibration.read_text().split()]
            height, width = read_picture(image).shape[:2]
            camera = Intrinsics(values[0], values[4], values[2], values[5], width, height)
        yield _file_pair(image.stem, image, partial(_read_png, truth, 256.0), camera, sharp=False)


def _of_diode(place: Path) -> Iterator[Pair]:
    for image in sorted(place.glob("**/*.png")):
        truth, mask = (image.with_name(f"{image.stem}_depth{end}.npy") for end in ("", "_mask"))
        if truth.is_file() and mask.is_file():
            yield _file_pair(image.stem, image, partial(_read_diode, truth, mask), DIODE)


def _read_diode(truth: Path, mask: Path) -> Depth:
    try:
        depth, valid = np.load(truth).squeeze().astype(np.float32), np.load(mask).squeeze() > 0
    except (ValueError, EOFError) as error:
        raise ImageError(f"{str(truth)!r} or its mask can't be read: {error}; download it again") from error
    return np.where(valid & (depth > 0), depth, np.float32(np.nan))


def _of_eth3d(place: Path) -> Iterator[Pair]:
    for truth in sorted(place.glob("**/ground_truth_depth/*/*")):
        image = truth.parents[2] / "images" / truth.parent.name / truth.name
        if image.is_file():
            name = f"{truth.parents[2].name}_{truth.stem}"
            yield _file_pair(name, image, partial(_read_eth3d, truth, image), None)


def _read_eth3d(truth: Path, image: Path) -> Depth:
    height, width = read_picture(image).shape[:2]
    depth = np.fromfile(truth, np.float32)
    if depth.size != height * width:
        raise ImageError(f"{str(truth)!r} holds {depth.size} values, its picture {width}x{height} pixels")
    depth = depth.reshape(height, width)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _of_nyu_file(place: Path) -> Iterator[Pair]:
    path = place / "nyu_depth_v2_labeled.mat" if place.is_dir() else place
    if path.suffix != ".mat" or not path.is_file():
        return
    try:
        import h5py
    except ImportError:
        raise ConfigError(f"{path} is an HDF5 file; to read it: pip install h5py") from None
    with h5py.File(path) as stored:
        count = len(stored["images"])
    for index in range(count):
        image, depth = partial(_read_nyu_image, path, index), partial(_read_nyu_depth, path, index)
        yield Pair(f"nyu_{index:04d}", path.parent, image, depth, NYU, sharp=False)


def _read_nyu_image(path: Path, index: int) -> NDArray[np.uint8]:
    import h5py

    with h5py.File(path) as stored:
        return np.ascontiguousarray(stored["images"][index].transpose(2, 1, 0))


def _read_nyu_depth(path: Path, index: int) -> Depth:
    """What was measured; the file's other depth has its holes filled in."""
    import h5py

    with h5py.File(path) as stored:
        depth = stored["rawDepths"][index].T.astype(np.float32)
    return np.where((depth > 0) & (depth < 10.0), depth, np.float32(np.nan))


def _of_nyu_folder(place: Path) -> Iterator[Pair]:
    for truth in sorted(place.glob("**/sync_depth_*.png")):
        number = truth.stem.removeprefix("sync_depth_")
        for image in (truth.with_name(f"rgb_{number}.{end}") for end in ("jpg", "png")):
            if image.is_file():
                name = f"{truth.parent.name}_{number}"
                yield _file_pair(name, image, partial(_read_png, truth, 1000.0), NYU, sharp=False)


def _file_pair(
    name: str, image: Path, depth: Callable[[], Depth], camera: Intrinsics | None, sharp: bool = True
) -> Pair:
    return Pair(name, image.parent, partial(read_picture, image), depth, camera, sharp=sharp)
