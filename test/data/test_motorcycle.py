"""Middlebury's Motorcycle."""

import numpy as np
import pytest

from redepth_ros.data.motorcycle import CAMERA, depth_from_stereo, load_motorcycle


def test_depth_of_a_disparity():
    disparity = np.array([50.0, np.nan], np.float32)
    depth = depth_from_stereo(disparity)
    assert depth[0] == pytest.approx(0.193001 * 994.978 / (50.0 + 31.086))
    assert np.isnan(depth[1])


def test_the_photograph_and_its_depth_have_the_cameras_size():
    image, depth = load_motorcycle()
    assert image.shape == (CAMERA.height, CAMERA.width, 3)
    assert (image.dtype, depth.dtype) == (np.uint8, np.float32)
    assert depth.shape == image.shape[:2]
    measured = np.isfinite(depth)
    assert measured.mean() > 0.8
    assert 2.0 < depth[measured].min() < depth[measured].max() < 6.0
