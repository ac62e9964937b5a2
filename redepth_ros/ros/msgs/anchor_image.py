"""Anchors: sensor_msgs/Image of measured depth to and from `Anchors`."""

from __future__ import annotations

from sensor_msgs.msg import Image
from std_msgs.msg import Header

from redepth_ros.core.metric.anchors import Anchors, anchors_from_same_view
from redepth_ros.ros.msgs.images import depth_from_msg, image_to_msg

__all__ = ["anchors_from_msg", "anchors_to_msg"]


def anchors_from_msg(message: Image, header: Header, height: int, width: int) -> Anchors:
    """Read the anchors of an image from a depth image of the same view.

    Args:
        message: 32FC1 (metres) or 16UC1 (millimetres); of the image's size, or of another size with
            the same aspect ratio.
        header: of the image.
        height, width: of the image, in pixels.

    Raises:
        ImageError: the depth image can't be decoded.
        AnchorError: the depth image has another frame, another aspect ratio, another unit, or no valid
            pixel.
    """
    return anchors_from_same_view(
        depth_from_msg(message), message.header.frame_id, header.frame_id, height, width
    )


def anchors_to_msg(anchors: Anchors, header: Header) -> Image:
    """Make a sparse depth image, 32FC1 in metres, NaN where nothing was measured."""
    return image_to_msg(anchors.to_depth(), "32FC1", header)
