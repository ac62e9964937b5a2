"""scikit-image's photographs."""

import pytest

pytest.importorskip("skimage")

from redepth_ros.data.motorcycle import CAMERA
from redepth_ros.recordings.photographs import PHOTOGRAPHS, open_photographs


def test_photographs_are_rgb_and_the_first_is_calibrated():
    frames = list(open_photographs().frames())
    assert [frame.name for frame in frames] == list(PHOTOGRAPHS)
    assert all(frame.image.ndim == 3 and frame.image.shape[2] == 3 for frame in frames)
    assert frames[0].camera == CAMERA
    assert frames[0].image.shape == (500, 741, 3)
