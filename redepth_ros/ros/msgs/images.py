"""Convert images and depth maps between ROS 2 messages and arrays.

Colours are converted by cv_bridge if the installed build knows the encoding, and by the table of
`recordings.messages.images` otherwise: builds differ, and the one on PyPI knows neither YUV 4:2:2
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
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.recordings.messages.images import (
    ImageLike,
    check_size,
    depth_from_fields,
    image_from_fields,
    pixels_from_fields,
)
from redepth_ros.recordings.messages.images import image_from_compressed as image_from_compressed_msg

__all__ = [
    "depth_from_msg",
    "image_from_compressed_msg",
    "image_from_msg",
    "image_to_msg",
    "load_cv_bridge",
    "to_array",
]


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
    check_size(msg.height, msg.width, max_megapixels)
    if msg.encoding == "rgb8":  # a view; the C++ build of cv_bridge would copy it
        return pixels_from_fields(msg, np.uint8, 3)
    convert = _conversion(msg.encoding) or image_from_fields
    return convert(msg)


def depth_from_msg(msg: ImageLike, max_megapixels: float = float("inf")) -> NDArray[np.float32]:
    """Return the depth of a message in metres, (H, W), NaN where it is invalid (REP 118).

    Args:
        msg: 32FC1 (metres, NaN where invalid), or 16UC1 or mono16 (millimetres, 0 where invalid).
        max_megapixels: larger images are rejected.

    Raises:
        ImageError: no pixels, too many pixels, another encoding, or less data than step x height.
    """
    check_size(msg.height, msg.width, max_megapixels)
    return depth_from_fields(msg)


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
def _conversion(encoding: str) -> Callable[[ImageLike], NDArray[np.uint8]] | None:
    """Return cv_bridge's conversion of messages to 8-bit RGB, (H, W, 3); None if it has none.

    Raises:
        ConfigError: cv_bridge can't be used.
    """
    # 8UC3 and similar do not name colours: builds of cv_bridge reject them or take them for RGB.
    if encoding[:1].isdigit():
        return None
    bridge = load_cv_bridge()

    def convert_pixels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
        height, width = pixels.shape[:2]
        rows = np.ascontiguousarray(pixels)
        contiguous = _Contiguous(height, width, encoding, rows.nbytes // height, rows)
        return np.asarray(bridge.imgmsg_to_cv2(contiguous, "rgb8"))

    try:
        dtype, channels = bridge.encoding_to_dtype_with_channels(encoding)
        converted = convert_pixels(np.zeros((4, 4, channels), dtype))
    except Exception:  # KeyError, CvBridgeError or cv2.error, depending on the build
        return None
    if converted.shape != (4, 4, 3) or converted.dtype != np.uint8:
        return None

    def convert(msg: ImageLike) -> NDArray[np.uint8]:
        pixels = pixels_from_fields(msg, dtype, channels)  # (H, W, C)
        try:
            return convert_pixels(pixels)
        except Exception as error:  # for example an odd number of columns that share colours
            raise ImageError(
                f"cv_bridge can't convert an image of {msg.width}x{msg.height} {encoding}: {error}"
            ) from error

    return convert
