"""RGB-D data sets: images with measured depth, in the folder layouts of their publishers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from redepth_ros.cli.calibrations import ColmapCamera, read_colmap_cameras, read_kitti_focals
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.images import to_rgb8
from redepth_ros.data import motorcycle
from redepth_ros.recordings.depth_files import read_npy, read_one_channel
from redepth_ros.recordings.images import read_image, read_image_size
from redepth_ros.recordings.order import natural_key

__all__ = ["MAX_DEPTH", "Pair", "read_pairs"]

MAX_DEPTH = 80.0
"""Measured depth beyond this many metres is not evaluated, as is usual for KITTI."""

DIODE = PinholeCamera(886.81, 886.81, 512.0, 384.0, 1024, 768)
"""Calibration that DIODE's authors give for all images."""

NYU = PinholeCamera(518.8579, 519.46961, 325.58245, 253.73617, 640, 480)
"""Calibration of NYU Depth V2's colour camera, from its toolbox."""

BLURRED = ("kinect", "xtion", "realsense", "rgb-d", "sensor", "lidar")
"""Words in the column ground_truth of an index.csv for depth with holes or smeared edges."""

LAYOUTS = (
    "an index.csv; KITTI's depth selection (image/ and groundtruth_depth/) or raw data "
    "(*_sync/image_02/data/ and *_sync/proj_depth/groundtruth/); DIODE (*_depth.npy); ETH3D (images/ and "
    "ground_truth_depth/); NYU Depth V2 (nyu_depth_v2_labeled.mat, or rgb_* beside sync_depth_*.png)"
)

Depth = NDArray[np.float32]


@dataclass(frozen=True)
class Pair:
    """An image and its measured depth; both are read when they are called."""

    name: str
    folder: Path
    """Folder of the image."""
    image: Callable[[], NDArray[np.uint8]]
    """(H, W, 3), RGB."""
    depth: Callable[[], Depth]
    """(H, W) along the optical axis, NaN where not measured."""
    camera: PinholeCamera | None = None
    metric: bool = True
    """Whether the depth is in metres; if not, its unit is unknown."""
    sharp: bool = True
    """Whether the depth is sharp enough at edges to evaluate edges."""


def read_pairs(path: Path) -> list[Pair]:
    """List the pairs of a data set, sorted by name.

    Args:
        path: a folder, an index.csv or nyu_depth_v2_labeled.mat; see LAYOUTS.

    Raises:
        ConfigError: the layout is unknown, or a line of the index can't be used.
    """
    if not path.exists():
        raise ConfigError(f"there is no {str(path)!r}; name the folder of a data set: {LAYOUTS}")
    for find in (
        _find_index,
        _find_kitti,
        _find_kitti_raw,
        _find_diode,
        _find_eth3d,
        _find_nyu_file,
        _find_nyu_folder,
    ):
        found = list(find(path))
        if found:
            return _name_apart(sorted(found, key=lambda pair: natural_key(pair.name)))
    raise ConfigError(f"{str(path)!r} holds no pairs of image and depth in a known layout: {LAYOUTS}")


def _name_apart(pairs: list[Pair]) -> list[Pair]:
    """Give pairs of one name a number: results are kept by name."""
    taken: set[str] = set()
    apart = []
    for pair in pairs:
        name, number = pair.name, 1
        while name in taken:
            number += 1
            name = f"{pair.name}-{number}"
        taken.add(name)
        apart.append(pair if name == pair.name else replace(pair, name=name))
    return apart


def _find_index(path: Path) -> Iterator[Pair]:
    index = path / "index.csv" if path.is_dir() else path
    if index.suffix != ".csv" or not index.is_file():
        return
    for row in _read_rows(index):
        try:
            yield _pair_from_row(index.parent, row)
        except (KeyError, ValueError, TypeError, OverflowError, ConfigError) as error:
            raise ConfigError(
                f"{index}: the line of {row.get('name')!r} can't be used ({type(error).__name__}: "
                f"{error}); it needs name, rgb, depth, kind and png_scale"
            ) from error


def _read_rows(index: Path) -> list[dict[str, str]]:
    """Read a CSV file in UTF-8 (with or without a byte order mark) or Latin-1, with commas or semicolons."""
    try:
        data = index.read_bytes()
    except OSError as error:
        raise ConfigError(f"{str(index)!r} can't be read: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    first = text.partition("\n")[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        return list(csv.DictReader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise ConfigError(f"{str(index)!r} is no table of comma-separated values: {error}") from None


def _pair_from_row(folder: Path, row: dict[str, str]) -> Pair:
    name, scale, metric = row["name"], float(row["png_scale"]), True
    if not 1e-6 < scale < 1e9:
        raise ValueError(f"png_scale is {scale}; it must be positive (PNG values per metre)")
    image, depth = folder / row["rgb"], folder / row["depth"]
    camera = None
    if row.get("fx"):
        fx, fy, cx, cy = (float(row[key]) for key in ("fx", "fy", "cx", "cy"))
        camera = PinholeCamera(fx, fy, cx, cy, int(row["width"]), int(row["height"]))
    read: Callable[[], Depth] = partial(_read_png, depth, scale)
    if row["kind"] == "disparity":
        metric = name == "middlebury_motorcycle"
        convert = motorcycle.depth_from_stereo if metric else _invert
        read = partial(_read_disparity, depth, scale, convert)
    elif row["kind"] != "depth":
        raise ValueError(f"kind is {row['kind']!r}; it must be depth or disparity")
    sharp = not any(word in (row.get("ground_truth") or "").lower() for word in BLURRED)
    return Pair(name, image.parent, partial(read_image, image), read, camera, metric, sharp)


def _invert(disparity: Depth) -> Depth:
    """Return depth of unknown unit; the factor keeps typical values below MAX_DEPTH."""
    return np.float32(100.0) / disparity


def _read_disparity(path: Path, scale: float, convert: Callable[[Depth], Depth]) -> Depth:
    return convert(_read_png(path, scale))


def _read_png(path: Path, scale: float) -> Depth:
    """Read a 16-bit PNG as value / scale, NaN where 0."""
    stored = read_one_channel(path)
    return np.where(stored > 0, stored.astype(np.float32) / np.float32(scale), np.float32(np.nan))


def _find_kitti(path: Path) -> Iterator[Pair]:
    for image in sorted(path.glob("**/image/*.png")):
        name = image.name.replace("_image_", "_groundtruth_depth_", 1)
        depth = image.parents[1] / "groundtruth_depth" / name
        if not depth.is_file():
            continue
        camera = None
        calibration = image.parents[1] / "intrinsics" / f"{image.stem}.txt"
        if calibration.is_file():
            camera = _read_kitti_camera(calibration, image)
        yield _pair_from_files(image.stem, image, partial(_read_png, depth, 256.0), camera, sharp=False)


def _read_kitti_camera(calibration: Path, image: Path) -> PinholeCamera | None:
    """Return the camera of an image; None if its calibration or the image is damaged."""
    try:
        values = [float(word) for word in calibration.read_text().split()]
        height, width = read_image_size(image)
        return PinholeCamera(values[0], values[4], values[2], values[5], width, height)
    except (OSError, ValueError, IndexError, ConfigError, ImageError):
        return None


def _find_kitti_raw(path: Path) -> Iterator[Pair]:
    """Find KITTI's raw images with annotated depth: two downloads, in one folder or beside each other."""
    depths = sorted(path.glob("**/proj_depth/groundtruth/image_0[23]/*.png"))
    if not depths:
        return
    images = {(one.parents[1].name, one.parent.name): one for one in path.glob("**/image_0[23]/data")}
    calibrations = {one.parent.name: one for one in path.glob("**/calib_cam_to_cam.txt")}
    for depth in depths:
        drive, camera = depth.parents[3].name, depth.parent.name
        folder = images.get((drive, camera))
        image = folder / depth.name if folder else None
        if image is None or not image.is_file():
            continue
        calibration = calibrations.get(drive[: len("2011_09_26")])
        pinhole = _read_kitti_raw_camera(calibration, image) if calibration else None
        name = f"{drive}_{camera}_{depth.stem}"
        yield _pair_from_files(name, image, partial(_read_png, depth, 256.0), pinhole, sharp=False)


def _read_kitti_raw_camera(calibration: Path, image: Path) -> PinholeCamera:
    height, width = read_image_size(image)
    return PinholeCamera(*read_kitti_focals(calibration, image.parents[1].name), width, height)


def _find_diode(path: Path) -> Iterator[Pair]:
    for image in sorted(path.glob("**/*.png")):
        depth, mask = (image.with_name(f"{image.stem}_depth{end}.npy") for end in ("", "_mask"))
        if depth.is_file() and mask.is_file():
            yield _pair_from_files(image.stem, image, partial(_read_diode, depth, mask), DIODE)


def _read_diode(path: Path, mask: Path) -> Depth:
    depth, valid = read_npy(path), read_npy(mask) > 0
    if depth.shape != valid.shape:
        raise ImageError(
            f"{str(path)!r} has the shape {depth.shape}, its mask {valid.shape}; download them again"
        )
    return np.where(valid & (depth > 0), depth, np.float32(np.nan))


def _find_eth3d(path: Path) -> Iterator[Pair]:
    """Find images and depth; with dslr_calibration_jpg/, both are rectified and have a camera."""
    cameras: dict[Path, dict[str, ColmapCamera]] = {}
    for depth in sorted(path.glob("**/ground_truth_depth/*/*")):
        scene = depth.parents[2]
        image = scene / "images" / depth.parent.name / depth.name
        if not image.is_file():
            continue
        calibration = scene / "dslr_calibration_jpg"
        if scene not in cameras:
            cameras[scene] = read_colmap_cameras(calibration) if calibration.is_dir() else {}
        camera = cameras[scene].get(f"{depth.parent.name}/{depth.name}")
        name, read = f"{scene.name}_{depth.stem}", partial(_read_eth3d, depth, image)
        if camera is None:
            yield _pair_from_files(name, image, read, None)
        else:
            yield Pair(
                name,
                image.parent,
                partial(_read_rectified_image, image, camera),
                partial(_rectify_depth, read, camera),
                camera.pinhole,
            )


def _read_rectified_image(path: Path, camera: ColmapCamera) -> NDArray[np.uint8]:
    image = read_image(path)
    size = (camera.pinhole.height, camera.pinhole.width)
    if image.shape[:2] != size:
        raise ImageError(
            f"{str(path)!r} has {image.shape[1]}x{image.shape[0]} pixels, its calibration "
            f"{size[1]}x{size[0]}; download both at one resolution"
        )
    return camera.rectify(image)


def _rectify_depth(read: Callable[[], Depth], camera: ColmapCamera) -> Depth:
    """Read depth along the optical axis, which rectification does not change, and move its pixels."""
    return camera.rectify(read(), nearest=True)


def _read_eth3d(path: Path, image: Path) -> Depth:
    height, width = read_image_size(image)
    try:
        depth = np.fromfile(path, np.float32)
    except OSError as error:
        raise ImageError(f"{str(path)!r} can't be read: {error.strerror}") from None
    if depth.size != height * width:
        raise ImageError(
            f"{str(path)!r} holds {depth.size} values, its image {width}x{height} pixels; download both again"
        )
    depth = depth.reshape(height, width)
    return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(np.nan))


def _find_nyu_file(path: Path) -> Iterator[Pair]:
    file = path / "nyu_depth_v2_labeled.mat" if path.is_dir() else path
    if file.suffix != ".mat" or not file.is_file():
        return
    try:
        import h5py
    except ImportError:
        raise ConfigError(f"{file} is an HDF5 file; to read it: pip install h5py") from None
    try:
        with h5py.File(file) as stored:
            count = len(stored["images"])
    except Exception as error:  # h5py raises many kinds for damaged data
        raise ConfigError(f"{file} can't be read: {error}; download it again") from None
    for index in range(count):
        image, depth = partial(_read_nyu_image, file, index), partial(_read_nyu_depth, file, index)
        yield Pair(f"nyu_{index:04d}", file.parent, image, depth, NYU, sharp=False)


def _read_nyu(path: Path, name: str, index: int, dimensions: int) -> NDArray[Any]:
    """Read an entry of NYU's file with its axes reversed.

    Raises:
        ImageError: it is damaged, or has another number of dimensions.
    """
    import h5py

    try:
        with h5py.File(path) as stored:
            entry = np.asarray(stored[name][index]).T
    except Exception as error:  # h5py raises many kinds for damaged data
        raise ImageError(
            f"{name} {index} of {str(path)!r} can't be read: {error}; download it again"
        ) from None
    if entry.ndim != dimensions:
        raise ImageError(f"{name} {index} of {str(path)!r} has the shape {entry.shape}; download it again")
    return entry


def _read_nyu_image(path: Path, index: int) -> NDArray[np.uint8]:
    return to_rgb8(_read_nyu(path, "images", index, 3))


def _read_nyu_depth(path: Path, index: int) -> Depth:
    """Read the measured depth; the holes of the file's other depth are filled in."""
    depth = _read_nyu(path, "rawDepths", index, 2).astype(np.float32)
    return np.where((depth > 0) & (depth < 10.0), depth, np.float32(np.nan))


def _find_nyu_folder(path: Path) -> Iterator[Pair]:
    for depth in sorted(path.glob("**/sync_depth_*.png")):
        number = depth.stem.removeprefix("sync_depth_")
        for image in (depth.with_name(f"rgb_{number}.{end}") for end in ("jpg", "png")):
            if image.is_file():
                name = f"{depth.parent.name}_{number}"
                yield _pair_from_files(name, image, partial(_read_png, depth, 1000.0), NYU, sharp=False)


def _pair_from_files(
    name: str, image: Path, depth: Callable[[], Depth], camera: PinholeCamera | None, sharp: bool = True
) -> Pair:
    return Pair(name, image.parent, partial(read_image, image), depth, camera, sharp=sharp)
