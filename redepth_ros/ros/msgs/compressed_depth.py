"""Make the message of a compressedDepth topic, as image_transport_plugins publishes it."""

from __future__ import annotations

import array
from typing import Any

from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from redepth_ros.recordings.messages.images import encode_compressed_depth

__all__ = ["compressed_depth_to_msg"]

MARGIN = 1.001
"""The format drops depth at its maximum; this keeps it."""


def compressed_depth_to_msg(depth: NDArray[Any], header: Header, max_depth: float) -> CompressedImage:
    """Make the message of a depth image.

    Args:
        depth: (H, W), float32 in metres with NaN where invalid, or uint16 in millimetres with 0.
        header: header of the message.
        max_depth: largest float32 depth that is kept, metres.
    """
    text, data = encode_compressed_depth(depth, max_depth=MARGIN * max_depth)
    msg = CompressedImage(header=header, format=text)
    filled = array.array("B")
    filled.frombytes(data)
    msg.data = filled
    return msg
