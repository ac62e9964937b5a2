"""Decode the fields of sensor_msgs/Image and CompressedImage by a table of OpenCV conversions."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any, Protocol

import cv2
import numpy as np
import PIL.Image
from numpy.typing import DTypeLike, NDArray

from redepth_ros.core.errors import ImageError
from redepth_ros.core.images import to_uint8

__all__ = [
    "DEPTH_ENCODINGS",
    "ENCODINGS",
    "ImageLike",
    "check_size",
    "depth_from_fields",
    "encode_compressed_depth",
    "image_from_compressed",
    "image_from_fields",
    "pixels_from_fields",
]

# dtype, channels, and OpenCV's conversion to RGB; None if the channels are RGB already.
# OpenCV names a Bayer pattern after the second row's second and third pixel, ROS after the
# first row's first two: rggb is BG there.
ENCODINGS: dict[str, tuple[type, int, int | None]] = {
    "rgb8": (np.uint8, 3, None),
    "bgr8": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "8UC3": (np.uint8, 3, cv2.COLOR_BGR2RGB),
    "rgba8": (np.uint8, 4, cv2.COLOR_RGBA2RGB),
    "bgra8": (np.uint8, 4, cv2.COLOR_BGRA2RGB),
    "mono8": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "8UC1": (np.uint8, 1, cv2.COLOR_GRAY2RGB),
    "rgb16": (np.uint16, 3, None),
    "bgr16": (np.uint16, 3, cv2.COLOR_BGR2RGB),
    "mono16": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "16UC1": (np.uint16, 1, cv2.COLOR_GRAY2RGB),
    "32FC1": (np.float32, 1, cv2.COLOR_GRAY2RGB),
    "32FC3": (np.float32, 3, cv2.COLOR_BGR2RGB),
    "yuv422": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "uyvy": (np.uint8, 2, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "yuyv": (np.uint8, 2, cv2.COLOR_YUV2RGB_YUY2),
    "bayer_rggb8": (np.uint8, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": (np.uint8, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": (np.uint8, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": (np.uint8, 1, cv2.COLOR_BayerGB2RGB),
    "bayer_rggb16": (np.uint16, 1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr16": (np.uint16, 1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg16": (np.uint16, 1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg16": (np.uint16, 1, cv2.COLOR_BayerGB2RGB),
}

DEPTH_ENCODINGS = ("16UC1", "32FC1")
"""Encodings of depth by REP 118; no camera publishes colours in them."""


class ImageLike(Protocol):
    """Any object with the fields of sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int | bool
    step: int
    data: Any


def image_from_fields(msg: ImageLike) -> NDArray[np.uint8]:
    """Return the image of a message as 8-bit RGB, (H, W, 3).

    16-bit values are scaled from [0, 65535], floating-point values from [0, 1], and rounded.

    Raises:
        ImageError: no pixels, an unknown encoding, less data than step x height, or floating-point
            values that are NaN or infinite.
    """
    if msg.encoding not in ENCODINGS:
        raise ImageError(
            f"image encoding {msg.encoding!r} is not known; it must be one of: {', '.join(ENCODINGS)}"
        )
    dtype, channels, code = ENCODINGS[msg.encoding]
    pixels = pixels_from_fields(msg, dtype, channels)  # (H, W, C)
    if channels == 2 and msg.width % 2:
        raise ImageError(
            f"{msg.encoding} image has {msg.width} columns; the number must be even, because two "
            "columns share one colour"
        )
    if dtype == np.float32 and not np.isfinite(pixels).all():
        raise ImageError("floating-point image has NaN or infinite values; replace them before publishing")
    if code is not None:
        return np.asarray(cv2.cvtColor(np.ascontiguousarray(to_uint8(pixels)), code))
    # A copy: rosbags' memory is read-only, which torch warns of.
    return to_uint8(pixels) if pixels.dtype != np.uint8 else pixels.copy()


def depth_from_fields(msg: ImageLike) -> NDArray[np.float32]:
    """Return the depth of a message in metres, (H, W), NaN where it is invalid (REP 118).

    Args:
        msg: 32FC1 (metres, NaN where invalid), or 16UC1 or mono16 (millimetres, 0 where invalid).

    Raises:
        ImageError: no pixels, another encoding, or less data than step x height.
    """
    if msg.encoding == "32FC1":
        return np.asarray(pixels_from_fields(msg, np.float32, 1)[..., 0])
    if msg.encoding not in ("16UC1", "mono16"):
        raise ImageError(
            f"depth image has the encoding {msg.encoding!r}; publish 32FC1 (metres) or 16UC1 (millimetres)"
        )
    millimetres = pixels_from_fields(msg, np.uint16, 1)[..., 0]
    return np.where(millimetres > 0, millimetres * np.float32(1e-3), np.float32(np.nan))


def pixels_from_fields(msg: ImageLike, dtype: DTypeLike, channels: int) -> NDArray[Any]:
    """Return the values of a message in native byte order, (H, W, C); a view if possible.

    Raises:
        ImageError: no pixels, or less data than step x height.
    """
    if msg.height < 1 or msg.width < 1:
        raise ImageError(f"image has {msg.width}x{msg.height} pixels; both sides must be at least 1")
    stored = np.dtype(dtype).newbyteorder(">" if msg.is_bigendian else "<")
    row = msg.width * channels * stored.itemsize
    if msg.step < row or len(msg.data) < msg.step * msg.height:
        raise ImageError(
            f"image of {msg.width}x{msg.height} {msg.encoding} has a step of {msg.step} and "
            f"{len(msg.data)} bytes of data; it needs a step of at least {row} and step x height bytes: "
            "the driver fills the message incorrectly, or it was truncated"
        )
    pixels: NDArray[Any] = np.ndarray(
        (msg.height, msg.width, channels),
        stored,
        buffer=memoryview(msg.data),
        strides=(msg.step, channels * stored.itemsize, stored.itemsize),
    )
    return pixels.astype(stored.newbyteorder("="), copy=False)


def image_from_compressed(data: Any, max_megapixels: float = float("inf")) -> NDArray[np.uint8]:
    """Return the image of a CompressedImage's data (JPEG, PNG and similar) as 8-bit RGB, (H, W, 3).

    EXIF is not applied: a camera's calibration is valid for the pixels as they are.

    Args:
        data: bytes of the message.
        max_megapixels: larger images are rejected, before memory is taken for their pixels; those above
            Pillow's limit of 179 always.

    Raises:
        ImageError: data that can't be decoded, or too many pixels.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes above Pillow's own limit
            with PIL.Image.open(io.BytesIO(data)) as header:
                width, height = header.size
        check_size(height, width, max_megapixels)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except ImageError:
        raise
    except PIL.Image.DecompressionBombError as error:
        raise ImageError(f"image is too large: {error}; publish a smaller image") from error
    except Exception:  # Pillow raises many kinds for data that is no image
        image = None
    if image is None:
        raise ImageError(
            f"compressed image of {len(data)} bytes can't be decoded; publish complete JPEG or PNG images"
        )
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def check_size(height: int, width: int, max_megapixels: float) -> None:
    """Raise ImageError for an image with no pixels or too many."""
    if height < 1 or width < 1:
        raise ImageError(f"image has {width}x{height} pixels; both sides must be at least 1")
    if height * width > max_megapixels * 1e6:
        raise ImageError(
            f"image of {width}x{height} has {height * width / 1e6:.1f} megapixels, more than "
            f"max_megapixels = {max_megapixels:g}; publish a smaller image or raise the parameter"
        )


def encode_compressed_depth(
    depth: NDArray[Any], *, max_depth: float = 10.0, quantization: float = 100.0, png_level: int = 3
) -> tuple[str, bytes]:
    """Encode depth as image_transport_plugins' compressedDepth does.

    Source: compressed_depth_image_transport/src/codec.cpp. The data starts with a header of 12 bytes,
    little-endian: int32 0, float32 A, float32 B. A PNG of 16 bits follows. For float32 depth z it holds
    A / z + B, 0 where z is invalid or beyond `max_depth`; A = q (q + 1) and B = 1 - A / max_depth, so that
    neighbouring values differ by about z^2 / A metres.

    Args:
        depth: (H, W), float32 in metres with NaN where invalid, or uint16 in millimetres with 0.
        max_depth: largest float32 depth that is kept, metres.
        quantization: q.
        png_level: compression of the PNG, 0 to 9.

    Returns:
        Format and data of the sensor_msgs/CompressedImage.

    Raises:
        ImageError: depth of another type.
    """
    if depth.dtype == np.uint16:
        encoding, a, b, stored = "16UC1", 0.0, 0.0, depth
    elif depth.dtype == np.float32:
        encoding = "32FC1"
        a = float(np.float32(quantization * (quantization + 1.0)))
        b = float(np.float32(1.0 - a / max_depth))
        valid = (depth > 0) & (depth < max_depth)
        inverse = np.divide(a, depth, where=valid, out=np.zeros_like(depth)) + np.float32(b)
        stored = np.where(valid, inverse.round().clip(0, 65535), 0).astype(np.uint16)
    else:
        raise ImageError(f"depth has dtype {depth.dtype}; compressedDepth takes float32 or uint16")
    _, payload = cv2.imencode(".png", np.ascontiguousarray(stored), [cv2.IMWRITE_PNG_COMPRESSION, png_level])
    return f"{encoding}; compressedDepth png", struct.pack("<iff", 0, a, b) + payload.tobytes()
