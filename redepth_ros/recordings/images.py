"""Image files: one reader, with one set of rules.

Pillow opens every file, because it reports truncated data, sizes without data, animations, palettes and
EXIF, which OpenCV hides. OpenCV then decodes the files with more than 8 bits, of which Pillow keeps 8.
The rules:

- The EXIF orientation is applied; alpha is dropped; palettes, grey, CMYK and YCbCr become RGB.
- 16 bits are scaled by the number of significant bits that the file gives (PNG's sBIT, the maximum
  of PGM and TIFF). A file that gives none and uses less than a quarter of the range is refused:
  12 bits in 16 would become a nearly black image.
- Floating-point values must be in [0, 1].
- Truncated and animated files are refused.
"""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from redepth_ros.core.errors import ImageError
from redepth_ros.core.images import to_rgb8

__all__ = ["IMAGE_SUFFIXES", "decode_image", "read_image", "read_image_size"]

IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}

WIDE_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of more than 8 bits."""
USED_SHARE = 0.25
"""Share of 16 bits that an image must use if its file does not give its number of bits."""
FLOAT_MARGIN = 1.01
"""Largest floating-point value: resampling exceeds 1 slightly."""
TIFF = (b"II*\0", b"MM\0*")
"""First bytes of a TIFF: Pillow does not read all of its types."""
TIFF_MAX_SAMPLE = 281
EXIF_ORIENTATION = 0x0112


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read an image file as 8-bit RGB, (H, W, 3).

    Raises:
        ImageError: there is no such file, or it is not one complete image; see the module's rules.
    """
    return decode_image(_read_bytes(path), repr(str(path)))


def read_image_size(path: Path) -> tuple[int, int]:
    """Return height and width of the upright image, without decoding it.

    Raises:
        ImageError: there is no such file, or it is no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                turned = _orientation(image) in (5, 6, 7, 8)
                return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:  # Pillow raises many kinds; read_image tells the reason
        height, width = read_image(path).shape[:2]
        return height, width


def decode_image(data: bytes, name: str) -> NDArray[np.uint8]:
    """Decode the bytes of an image file to 8-bit RGB, (H, W, 3).

    Args:
        data: of the file.
        name: of the file, for messages.

    Raises:
        ImageError: not one complete image; see the module's rules.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes below the limit, and about damaged metadata
            image = Image.open(io.BytesIO(data))
            _check_single(image, name)
            wide = image.mode in WIDE_MODES or any(";16" in str(tile[3]) for tile in image.tile)
            turn = _orientation(image)
            image.load()
            if not wide:
                return np.ascontiguousarray(_turn(_to_rgb(image), turn))
    except Image.UnidentifiedImageError:
        # Pillow reads all other formats, and OpenCV takes memory for the size in a damaged header.
        return to_rgb8(_scale(_decode_wide(data if data[:4] in TIFF else b"", name), data, None, name))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{name} is too large: {error}") from None
    except ImageError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged data
        raise ImageError(
            f"{name} is truncated or damaged ({error}); copy or download it again, or leave it out"
        ) from None
    stored = np.asarray(image) if image.format == "PPM" else _turn(_decode_wide(data, name), turn)
    return to_rgb8(_scale(stored, data, image, name))


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"there is no image {str(path)!r}") from None
    except OSError as error:
        raise ImageError(f"{str(path)!r} can't be read: {error.strerror}") from None
    except ValueError as error:  # a null byte in the name
        raise ImageError(f"{str(path)!r} can't be read: {error}") from None


def _check_single(image: Image.Image, name: str) -> None:
    """Raise ImageError for several images in one file; phones' MPO has one and its previews."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ImageError(
            f"{name} has {frames} frames or pages; store each of them as an image of its own, for example "
            "by ffmpeg, or make a video of them"
        )


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) to 8; 1 if there is none, or none that is valid."""
    given = image.getexif().get(EXIF_ORIENTATION, 1)
    return given if given in range(1, 9) else 1


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode == "P":  # directly to RGB, transparent colours would be lost
        image = image.convert("RGBA")
    # A copy: the memory of Pillow is read-only, which torch warns of.
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _decode_wide(data: bytes, name: str) -> NDArray[Any]:
    """Decode without losing bits: (H, W) or (H, W, C), RGB."""
    try:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
        if stored is not None and stored.ndim == 3:
            stored = cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    except cv2.error:  # too many pixels, or another number of channels
        stored = None
    if stored is None:
        raise ImageError(f"{name} is not an image that Pillow or OpenCV can read; convert it to PNG or JPEG")
    return np.asarray(stored)


def _turn(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to rows and columns."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image


def _scale(image: NDArray[Any], data: bytes, opened: Image.Image | None, name: str) -> NDArray[Any]:
    """Return values in the range of their type; see the module's rules."""
    if np.issubdtype(image.dtype, np.floating):
        largest = float(np.nanmax(image, initial=0.0))
        if largest > FLOAT_MARGIN:
            raise ImageError(
                f"{name} has floating-point values up to {largest:.4g}; they must be in [0, 1]: divide them "
                "(by 255 if they are 8-bit values), or store 8 bits"
            )
        return image
    if image.dtype == np.uint8:
        return image
    if image.min() < 0 or image.max() > 65535:
        raise ImageError(f"{name} has values from {image.min()} to {image.max()}; they must fit into 16 bits")
    image = image.astype(np.uint16)
    colours = image[..., :3] if image.ndim == 3 else image  # alpha is full
    largest_valid, largest_used = _largest_valid(data, opened), int(colours.max())
    if largest_valid is not None and largest_used <= largest_valid:
        if largest_valid == 65535:
            return image
        return (image.astype(np.float32) / np.float32(largest_valid)).clip(0.0, 1.0)
    if 0 < largest_used < USED_SHARE * 65535:
        bits = largest_used.bit_length()
        raise ImageError(
            f"{name} has 16 bits per value, of which it uses {bits} (the largest is {largest_used}), and the "
            f"file does not say how many are valid: it would become a dark image. Scale it by "
            f"{65535 / (2**bits - 1):.4g}, or store 8 bits"
        )
    return image


def _largest_valid(data: bytes, opened: Image.Image | None) -> int | None:
    """Return the largest valid value that the file gives; None if it gives none."""
    if opened is not None and opened.format == "PPM":
        return 65535  # Pillow has scaled it by the file's maximum
    if opened is not None and opened.format == "TIFF":
        given = getattr(opened, "tag_v2", {}).get(TIFF_MAX_SAMPLE)
        numbers = given if isinstance(given, tuple) else (given,)
        valid = [int(one) for one in numbers if isinstance(one, (int, float)) and 1 <= one <= 65535]
        return max(valid, default=None)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        at = 8
        while at + 8 <= len(data):
            length, kind = struct.unpack(">I4s", data[at : at + 8])
            if kind == b"sBIT":
                bits = max(data[at + 8 : at + 8 + min(length, 3)], default=16)
                # Encoders scale by shifting left (sBIT), so only unshifted values need a scale.
                return 2**bits - 1 if 0 < bits < 16 else 65535
            if kind == b"IDAT":
                return None
            at += length + 12
    return None
