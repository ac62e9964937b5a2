"""Convert images and depth maps between ROS 2 messages and arrays.

Colours are converted by cv_bridge if the installed build knows the encoding, and by a table
of OpenCV conversions otherwise: builds differ, and the one on PyPI knows neither YUV 4:2:2
nor 16-bit colour. Three things are done here in any case:

- Rows are made contiguous and values native first, because the build on PyPI ignores `step` and
  fails on big-endian data.
- Depth is read as it is. There is no colour to convert, and the build on PyPI takes 16UC1 for 8 bits.
- Messages are filled here. `cv2_to_imgmsg` copies twice, and the `bytes` that it assigns are checked
  one by one on Humble.
"""

from __future__ import annotations

import array
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.images import to_uint8

__all__ = [
    "ENCODINGS",
    "ImageLike",
    "depth_from_msg",
    "image_from_compressed_msg",
    "image_from_msg",
    "image_to_msg",
    "load_cv_bridge",
    "to_array",
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


class ImageLike(Protocol):
    """Any object with the fields of sensor_msgs/Image."""

    height: int
    width: int
    encoding: str
    is_bigendian: int | bool
    step: int
    data: Any


@dataclass(frozen=True)
class _Contiguous:
    """What cv_bridge reads of a message: contiguous rows of native values."""

    height: int
    width: int
    encoding: str
    step: int
    data: NDArray[Any]
    is_bigendian: bool = sys.byteorder == "big"


def image_from_msg(msg: ImageLike, max_megapixels: float = float("inf")) -> NDArray[np.uint8]:
    """Return the image of a message as 8-bit RGB, (H, W, 3).

    16-bit values are scaled from [0, 65535], floating-point values from [0, 1], and rounded. The
    result for rgb8 is a view of the message's memory.

    Args:
        msg: the message.
        max_megapixels: larger images are rejected.

    Raises:
        ConfigError: cv_bridge can't be used, see `load_cv_bridge`.
        ImageError: no pixels, too many pixels, an unknown encoding, less data than step x height,
            or floating-point values that are NaN or infinite.
    """
    _check_size(msg.height, msg.width, max_megapixels)
    dtype, channels = _layout(msg.encoding)
    pixels = _pixels(msg, dtype, channels)  # (H, W, C)
    if msg.encoding == "rgb8":  # a view; the C++ build of cv_bridge would copy it
        return pixels
    if channels == 2 and msg.width % 2:
        raise ImageError(
            f"{msg.encoding} image has {msg.width} columns; the number must be even, because two "
            "columns share one colour"
        )
    if (convert := _conversion(msg.encoding)) is not None:
        return convert(pixels)
    if dtype == np.float32:
        _check_finite(pixels)
    pixels, code = to_uint8(pixels), ENCODINGS[msg.encoding][2]
    return pixels if code is None else np.asarray(cv2.cvtColor(pixels, code))


def depth_from_msg(msg: ImageLike, max_megapixels: float = float("inf")) -> NDArray[np.float32]:
    """Return the depth of a message in metres, (H, W), NaN where it is invalid (REP 118).

    Args:
        msg: 32FC1 (metres, NaN where invalid), or 16UC1 or mono16 (millimetres, 0 where invalid).
        max_megapixels: larger images are rejected.

    Raises:
        ImageError: no pixels, too many pixels, another encoding, or less data than step x height.
    """
    _check_size(msg.height, msg.width, max_megapixels)
    if msg.encoding == "32FC1":
        return np.asarray(_pixels(msg, np.float32, 1)[..., 0])
    if msg.encoding not in ("16UC1", "mono16"):
        raise ImageError(
            f"depth image has the encoding {msg.encoding!r}; publish 32FC1 (metres) or 16UC1 (millimetres)"
        )
    millimetres = _pixels(msg, np.uint16, 1)[..., 0]
    return np.where(millimetres > 0, millimetres * np.float32(1e-3), np.float32(np.nan))


def image_from_compressed_msg(
    data: bytes | array.array[int], max_megapixels: float = float("inf")
) -> NDArray[np.uint8]:
    """Return the image of a CompressedImage's data (JPEG, PNG and similar) as 8-bit RGB, (H, W, 3).

    cv_bridge is not used here, because it rotates by EXIF: a camera's calibration is valid for the
    pixels as they are.

    Args:
        data: the message's data.
        max_megapixels: larger images are rejected.

    Raises:
        ImageError: data that OpenCV can't decode, or too many pixels.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if len(data) else None
    except cv2.error:  # more pixels than OpenCV's own limit
        image = None
    if image is None:
        raise ImageError(
            f"compressed image of {len(data)} bytes can't be decoded; publish complete JPEG or PNG images"
        )
    _check_size(image.shape[0], image.shape[1], max_megapixels)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def image_to_msg(image: NDArray[Any], encoding: str, header: Header) -> Image:
    """Make a message of an array.

    Args:
        image: (H, W) or (H, W, C), of the dtype of the encoding.
        encoding: encoding of the message.
        header: header of the message.
    """
    msg = Image()
    msg.header = header
    msg.height, msg.width = image.shape[:2]
    msg.encoding = encoding
    msg.is_bigendian = int(sys.byteorder == "big")
    msg.step = image.nbytes // image.shape[0]
    msg.data = to_array(image)
    return msg


def to_array(data: NDArray[Any]) -> array.array[int]:
    """Copy the bytes of an array into the type that rclpy accepts without checking each byte."""
    filled = array.array("B")
    filled.frombytes(np.ascontiguousarray(data).data.cast("B"))
    return filled


@lru_cache(maxsize=1)
def load_cv_bridge() -> Any:
    """Import cv_bridge, convert a small image with it, and return a `CvBridge`.

    A cv_bridge that was built for another NumPy or OpenCV than the installed one often fails only
    when it is used. Call this function at start, so that it fails there.

    Raises:
        ConfigError: it is not installed, or it can't be used.
    """
    try:
        from cv_bridge import CvBridge

        bridge = CvBridge()
        bgr = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        rgb = bridge.imgmsg_to_cv2(_Contiguous(4, 4, "bgr8", 12, bgr), "rgb8")
        if not np.array_equal(rgb, bgr[..., ::-1]):
            raise ValueError("it converts bgr8 to wrong colours")
    except ModuleNotFoundError as error:
        if error.name != "cv_bridge":
            raise _unusable(error) from error
        raise ConfigError(
            "cv_bridge is not installed; install it: sudo apt install ros-$ROS_DISTRO-cv-bridge, or "
            "pip install --no-deps cv-bridge where ROS 2 comes from PyPI"
        ) from error
    except Exception as error:  # builds for other versions fail in many ways
        raise _unusable(error) from error
    return bridge


def _unusable(error: Exception) -> ConfigError:
    """Return the error for a cv_bridge that is installed and can't be used."""
    return ConfigError(
        f"cv_bridge can't be used with NumPy {np.__version__} and OpenCV {cv2.__version__} "
        f"({type(error).__name__}: {error}); it was built for other versions. Where ROS 2 comes from apt: "
        "pip install 'numpy<2' 'opencv-python-headless<5', or uninstall these two from pip; where it comes "
        "from PyPI: install the versions in requirements-kilted.txt"
    )


@lru_cache(maxsize=64)
def _layout(encoding: str) -> tuple[np.dtype[Any], int]:
    """Return dtype and channels of an encoding.

    Raises:
        ConfigError: cv_bridge can't be used.
        ImageError: neither the table nor cv_bridge knows the encoding.
    """
    if encoding in ENCODINGS:
        dtype, channels, _ = ENCODINGS[encoding]
    elif _conversion(encoding) is not None:
        dtype, channels = load_cv_bridge().encoding_to_dtype_with_channels(encoding)
    else:
        raise ImageError(f"image encoding {encoding!r} is not known; publish one of: {', '.join(ENCODINGS)}")
    return np.dtype(dtype), channels


@lru_cache(maxsize=64)
def _conversion(encoding: str) -> Callable[[NDArray[Any]], NDArray[np.uint8]] | None:
    """Return cv_bridge's conversion of pixels (H, W, C) to 8-bit RGB; None if it has none.

    Raises:
        ConfigError: cv_bridge can't be used.
    """
    # 8UC3 and similar do not name colours: builds of cv_bridge reject them or take them for RGB.
    if encoding[:1].isdigit():
        return None
    bridge = load_cv_bridge()

    def convert(pixels: NDArray[Any]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        rows = np.ascontiguousarray(pixels)
        return np.asarray(
            bridge.imgmsg_to_cv2(_Contiguous(height, width, encoding, rows.nbytes // height, rows), "rgb8")
        )

    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
        converted = convert(np.zeros((4, 4, channels), dtype))
    except Exception:  # KeyError, CvBridgeError or cv2.error, depending on the build
        return None
    return convert if converted.shape == (4, 4, 3) and converted.dtype == np.uint8 else None


def _check_size(height: int, width: int, max_megapixels: float) -> None:
    """Raise ImageError for an image with no pixels or too many."""
    if height < 1 or width < 1:
        raise ImageError(f"image has {width}x{height} pixels; both sides must be at least 1")
    if height * width > max_megapixels * 1e6:
        raise ImageError(
            f"image of {width}x{height} has {height * width / 1e6:.1f} megapixels, more than "
            f"max_megapixels = {max_megapixels:g}; publish a smaller image or raise the parameter"
        )


def _pixels(msg: ImageLike, dtype: DTypeLike, channels: int) -> NDArray[Any]:
    """Return the values of a message in native byte order, (H, W, C); a view if possible."""
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


def _check_finite(pixels: NDArray[np.float32]) -> None:
    """Raise ImageError for values that are NaN or infinite."""
    invalid = pixels.size - int(np.count_nonzero(np.isfinite(pixels)))
    if invalid:
        raise ImageError(
            f"floating-point image has {invalid} NaN or infinite of {pixels.size} values; replace them "
            "before publishing"
        )
