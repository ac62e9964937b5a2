"""The lens of ETH3D against OpenCV's models."""

import cv2
import numpy as np
import pytest

from redepth_ros.cli.calibrations import ColmapCamera
from redepth_ros.core.camera import PinholeCamera

CAMERA = PinholeCamera(60.0, 62.0, 47.0, 33.0, 96, 64)
MATRIX = np.array([[60.0, 0.0, 47.0], [0.0, 62.0, 33.0], [0.0, 0.0, 1.0]])
ROWS, COLUMNS = (axis.astype(np.float32) for axis in np.mgrid[:64, :96])
RAYS = np.stack(((COLUMNS - 47.0) / 60.0, (ROWS - 33.0) / 62.0, np.ones_like(ROWS)), -1).reshape(-1, 1, 3)
NONE = np.zeros(3)


def pixels_of_rays(camera: ColmapCamera) -> np.ndarray:
    """Return where the camera sees the ray of each rectified pixel: (H * W, 2) columns and rows."""
    seen = [camera.rectify(axis) for axis in (COLUMNS, ROWS)]
    return np.stack(seen, axis=-1).reshape(-1, 2)


def compare(found: np.ndarray, expected: np.ndarray) -> None:
    inside = np.isfinite(found).all(1)
    assert inside.sum() > 3000
    np.testing.assert_allclose(
        found[inside], expected[inside], atol=0.05
    )  # OpenCV interpolates in 1/32 pixels


def test_radial_distortion_is_that_of_opencvs_fisheye_model():
    k = (-0.05, 0.03, 0.02, -0.01)
    camera = ColmapCamera("THIN_PRISM_FISHEYE", CAMERA, (k[0], k[1], 0.0, 0.0, k[2], k[3], 0.0, 0.0))
    expected, _ = cv2.fisheye.projectPoints(RAYS.astype(np.float64), NONE, NONE, MATRIX, np.array(k))
    compare(pixels_of_rays(camera), expected[:, 0])


def test_tangential_and_thin_prism_distortion_are_those_of_opencv():
    """OpenCV's rational model has them, for a lens that is no fisheye: its rays are given in angles."""
    k1, k2, p1, p2, k3, sx1, sy1 = -0.05, 0.03, 0.02, -0.01, 0.01, 0.03, -0.02
    camera = ColmapCamera("THIN_PRISM_FISHEYE", CAMERA, (k1, k2, p1, p2, k3, 0.0, sx1, sy1))
    radius = np.hypot(RAYS[..., :1], RAYS[..., 1:2])
    angles = RAYS.astype(np.float64).copy()
    angles[..., :2] *= np.arctan(radius) / np.maximum(radius, 1e-9)
    coefficients = np.array([k1, k2, p1, p2, k3, 0.0, 0.0, 0.0, sx1, 0.0, sy1, 0.0])
    expected, _ = cv2.projectPoints(angles, NONE, NONE, MATRIX, coefficients)
    compare(pixels_of_rays(camera), expected[:, 0])


@pytest.mark.parametrize(("kind", "outside"), [(np.float32, np.nan), (np.uint8, 0)])
def test_pixels_that_the_lens_does_not_see_are_invalid(kind, outside):
    wide = ColmapCamera("THIN_PRISM_FISHEYE", CAMERA, (0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    found = wide.rectify(np.full((64, 96), 7, kind), nearest=True)
    assert found[33, 47] == 7
    np.testing.assert_equal(found[0, 0], outside)
