"""Pictures of any kind as RGB bytes."""

import numpy as np
import pytest

from redepth_ros.core.errors import ImageError
from redepth_ros.core.images import rgb_bytes, to_bytes

BYTES = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def test_bytes_stay_as_they_are():
    assert np.array_equal(rgb_bytes(BYTES), BYTES)


def test_alpha_is_left_out():
    with_alpha = np.dstack((BYTES, np.full((5, 7), 9, np.uint8)))
    assert np.array_equal(rgb_bytes(with_alpha), BYTES)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_becomes_three_channels_that_may_be_written(shape):
    found = rgb_bytes(np.full(shape, 40, np.uint8))
    assert found.shape == (5, 7, 3)
    found[0, 0] = 1


def test_16_bits_are_scaled_and_rounded():
    assert rgb_bytes(np.array([[0, 257, 300, 65535]], np.uint16))[0, :, 0].tolist() == [0, 1, 1, 255]


def test_floats_are_taken_as_0_to_1():
    assert rgb_bytes(np.array([[-1.0, 0.0, 0.5, 1.0, 7.0]]))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.full((4, 4), np.nan), "16 values of the picture are NaN or infinite"),
        (np.zeros((4, 4), np.int32), "dtype int32; it must be uint8, uint16 or floating point"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
    ],
)
def test_what_is_no_picture_is_refused(picture, words):
    with pytest.raises(ImageError, match=words):
        rgb_bytes(picture)


def test_16_bits_become_the_nearest_byte():
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_bytes(values), (values / 257).round())


def test_bytes_are_not_copied():
    assert to_bytes(BYTES) is BYTES
