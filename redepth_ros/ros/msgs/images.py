"""Pictures and depth maps between ROS 2 messages and arrays.

OpenCV converts the colours. cv_bridge is not used here: its build for pip ignores row
padding, has no YUV 4:2:2 and copies more than once, and a cv_bridge built against another
NumPy or OpenCV than the one that is imported is the most common way such a node dies. The
tests compare the two wherever both can convert.
"""

from __future__ import annotations

import array
import sys
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.errors import ImageError
from redepth_ros.core.images import to_bytes

__all__ = ["ENCODINGS", "ImageLike", "decode_compressed", "decode_depth", "decode_image", "encode_image"]

# What each encoding is in memory, and how OpenCV makes RGB of it; None where it is RGB.
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


class ImageLike(Protocol):
    """sensor_msgs/Image, whoever deserialised it."""

    height: int
    width: int
    encoding: str
    is_bigendian: int | bool
    step: int
    data: Any


def decode_image(message: ImageLike, max_megapixels: float = float("inf")) -> NDArray[np.uint8]:
    """The picture of a message as RGB bytes: (H, W, 3).

    16-bit values are scaled from 0..65535, float values from 0..1, and rounded. The result of rgb8 is a
    view of the message's own memory.

    Raises:
        ImageError: no size, too large, an encoding that is not in `ENCODINGS`, less data
            than step x height, or a float value that is NaN or infinite.
    """
    check_size(message.height, message.width, max_megapixels)
    if message.encoding not in ENCODINGS:
        raise ImageError(
            f"image encoding {message.encoding!r} is not known; publish one of: {', '.join(ENCODINGS)}"
        )
    kind, channels, conversion = ENCODINGS[message.encoding]
    picture = _pixels(message, kind, channels)
    if kind is np.float32:
        _check_finite(picture)
    picture = to_bytes(picture)
    if conversion is None:
        return picture
    if channels == 2 and message.width % 2:
        raise ImageError(
            f"image of {message.width} columns in {message.encoding}: two share a colour, so their "
            "number must be even"
        )
    return np.asarray(cv2.cvtColor(picture, conversion))


def decode_depth(message: ImageLike, max_megapixels: float = float("inf")) -> NDArray[np.float32]:
    """The depth of a message in metres: (H, W), NaN where nothing was measured (REP 118).

    Args:
        message: 32FC1 is metres, 16UC1 (or mono16) millimetres, 0 where invalid.
        max_megapixels: larger ones are refused.

    Raises:
        ImageError: no size, too large, another encoding, or less data than step x height.
    """
    check_size(message.height, message.width, max_megapixels)
    if message.encoding == "32FC1":
        return np.asarray(_pixels(message, np.float32, 1)[..., 0])
    if message.encoding not in ("16UC1", "mono16"):
        raise ImageError(
            f"depth image with the encoding {message.encoding!r}; publish 32FC1 (metres) or 16UC1 "
            "(millimetres)"
        )
    millimetres = _pixels(message, np.uint16, 1)[..., 0]
    return np.where(millimetres > 0, millimetres * np.float32(1e-3), np.float32(np.nan))


def decode_compressed(
    data: bytes | array.array[int], max_megapixels: float = float("inf")
) -> NDArray[np.uint8]:
    """The picture of a CompressedImage's data (JPEG, PNG and the like) as RGB bytes: (H, W, 3).

    Raises:
        ImageError: data that OpenCV can't decode, or a picture that is too large.
    """
    # A camera's calibration is for the pixels as they are: no turning by EXIF.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if len(data) else None
    except cv2.error:  # beyond OpenCV's own limit of pixels
        picture = None
    if picture is None:
        raise ImageError(
            f"compressed image of {len(data)} bytes can't be decoded; send whole JPEG or PNG pictures"
        )
    check_size(picture.shape[0], picture.shape[1], max_megapixels)
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))


def encode_image(picture: NDArray[Any], encoding: str, header: Header) -> Image:
    """A message of a contiguous array (H, W) or (H, W, C) in an encoding of its dtype."""
    message = Image()
    message.header = header
    message.height, message.width = picture.shape[:2]
    message.encoding = encoding
    message.is_bigendian = int(sys.byteorder == "big")
    message.step = picture.nbytes // picture.shape[0]
    message.data = to_array(picture)
    return message


def to_array(data: NDArray[Any]) -> array.array[int]:
    """The bytes of an array, as rclpy takes them without looking at each one."""
    filled = array.array("B")
    filled.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return filled


def check_size(height: int, width: int, max_megapixels: float) -> None:
    """Raise ImageError for an image of no size or of too many pixels."""
    if height < 1 or width < 1:
        raise ImageError(f"image of {width}x{height} pixels; both sides must be at least 1")
    if height * width > max_megapixels * 1e6:
        raise ImageError(
            f"image of {width}x{height} is {height * width / 1e6:.1f} megapixels, more than "
            f"max_megapixels = {max_megapixels:g}; publish a smaller image or raise the parameter"
        )


def _pixels(message: ImageLike, kind: type, channels: int) -> NDArray[Any]:
    """The values of a message, (H, W, C), in this machine's byte order; a view where that is possible."""
    dtype = np.dtype(kind).newbyteorder(">" if message.is_bigendian else "<")
    row = message.width * channels * dtype.itemsize
    if message.step < row or len(message.data) < message.step * message.height:
        raise ImageError(
            f"image of {message.width}x{message.height} {message.encoding} has a step of "
            f"{message.step} and {len(message.data)} bytes of data; it needs a step of at least {row} "
            "and step x height bytes: the driver fills the message wrongly, or it was cut on its way"
        )
    picture: NDArray[Any] = np.ndarray(
        (message.height, message.width, channels),
        dtype,
        buffer=memoryview(message.data),
        strides=(message.step, channels * dtype.itemsize, dtype.itemsize),
    )
    if dtype.byteorder == (">" if sys.byteorder == "little" else "<") and dtype.itemsize > 1:
        picture = picture.astype(kind)
    return picture


def _check_finite(picture: NDArray[np.float32]) -> None:
    """Raise ImageError for values that are NaN or infinite."""
    wrong = picture.size - int(np.count_nonzero(np.isfinite(picture)))
    if wrong:
        raise ImageError(
            f"float image has {wrong} NaN or infinite of {picture.size} values; fill them before publishing"
        )
