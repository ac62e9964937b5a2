"""The scale from the camera's height over the ground."""

import numpy as np
import pytest

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.ground_plane import scale_from_height

CAMERA = PinholeCamera(80.0, 70.0, 30.5, 24.5, 64, 48)


def ground_disparity(height=1.2, pitch=0.2, scale=5.0, shift=0.0):
    """Return the disparity of an endless ground and a wall; the camera looks down by `pitch` radians."""
    v, u = np.mgrid[0:48, 0:64].astype(float)
    rays = np.stack(((u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)), axis=-1)
    below = rays @ np.array([0.0, np.cos(pitch), np.sin(pitch)])
    depth = np.minimum(height / np.maximum(below, 1e-6), 6.0)
    return scale / depth - shift


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_scale_from_the_cameras_height(shift):
    disparity = ground_disparity(pitch=0.5, shift=shift)
    disparity[40:, :20] += 1.0  # an object on the ground
    found = scale_from_height(disparity, CAMERA, 1.2, shift)
    assert found.scale == pytest.approx(5.0, rel=0.01)
    assert found.shift == shift
    assert 0.0 < found.relative_stddev < 0.03


def test_scale_grows_with_the_height():
    found = scale_from_height(ground_disparity(), CAMERA, 2.4)
    assert found.scale == pytest.approx(10.0, rel=0.02)


def test_an_image_without_ground_is_rejected():
    with pytest.raises(AnchorError, match="lies on one plane below the camera; camera_height needs 35%"):
        scale_from_height(np.full((48, 64), 2.0), CAMERA, 1.2)
    with pytest.raises(AnchorError, match="the ground is not visible"):
        scale_from_height(np.full((48, 64), np.nan), CAMERA, 1.2)


def test_ground_on_too_few_pixels_is_rejected():
    disparity = np.random.default_rng(0).uniform(1.0, 6.0, (48, 64))
    disparity[:, :16] = ground_disparity()[:, :16]
    with pytest.raises(AnchorError, match="camera_height needs 35%"):
        scale_from_height(disparity, CAMERA, 1.2)
