"""Depth images as anchors."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

from fakes import depth_array, header_at

from redepth_ros.core.errors import AnchorError, ImageError
from redepth_ros.ros.msgs.anchor_image import anchors_from_msg, anchors_to_msg
from redepth_ros.ros.msgs.images import image_to_msg

HEADER = header_at(1.0)
DEPTH = np.linspace(1.0, 4.0, 24 * 32, dtype=np.float32).reshape(24, 32)


def read(depth=DEPTH, encoding="32FC1", frame_id="camera", height=24, width=32):
    return anchors_from_msg(image_to_msg(depth, encoding, header_at(1.0, frame_id)), HEADER, height, width)


def test_metres_are_read():
    anchors = read()
    np.testing.assert_array_equal(anchors.depth, DEPTH[anchors.rows, anchors.columns])
    assert len(anchors) == DEPTH.size


def test_millimetres_are_read_as_metres():
    anchors = read((DEPTH * 1000.0).astype(np.uint16), "16UC1")
    np.testing.assert_allclose(anchors.depth, DEPTH[anchors.rows, anchors.columns], atol=2e-3)


def test_another_size_of_the_same_aspect_is_resized():
    anchors = read(height=48, width=64)
    assert (anchors.height, anchors.width) == (48, 64)
    np.testing.assert_allclose(anchors.depth, DEPTH[anchors.rows // 2, anchors.columns // 2])


def test_another_aspect_is_an_error():
    with pytest.raises(AnchorError, match="32x24 pixels, the image 32x32"):
        read(height=32)


def test_another_frame_is_an_error():
    with pytest.raises(AnchorError, match="'lidar', the image in 'camera'"):
        read(frame_id="lidar")


def test_another_encoding_is_an_error():
    with pytest.raises(ImageError, match="'mono8'"):
        read(np.zeros((24, 32), np.uint8), "mono8")


def test_a_depth_image_without_valid_pixels_is_an_error():
    with pytest.raises(AnchorError, match="none of the 768 pixels"):
        read(np.full_like(DEPTH, np.nan))


def test_anchors_survive_the_way_to_a_message_and_back():
    depth = np.where(np.arange(32) % 3 == 0, DEPTH, np.nan).astype(np.float32)
    message = anchors_to_msg(read(depth), HEADER)
    assert message.header == HEADER
    np.testing.assert_array_equal(depth_array(message), depth)
