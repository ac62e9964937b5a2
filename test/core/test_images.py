"""Images of any kind as 8-bit RGB."""

import numpy as np
import pytest

from redepth_ros.core.errors import ImageError
from redepth_ros.core.images import to_rgb8, to_uint8

RGB = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)


def test_8_bit_rgb_is_unchanged():
    assert np.array_equal(to_rgb8(RGB), RGB)


def test_alpha_is_ignored():
    with_alpha = np.dstack((RGB, np.full((5, 7), 9, np.uint8)))
    assert np.array_equal(to_rgb8(with_alpha), RGB)


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_grey_becomes_three_writable_channels(shape):
    found = to_rgb8(np.full(shape, 40, np.uint8))
    assert found.shape == (5, 7, 3)
    assert (found == 40).all()
    found[0, 0] = 1


def test_the_result_is_contiguous():
    assert to_rgb8(RGB[:, ::2, ::-1]).flags.c_contiguous
    assert np.array_equal(to_rgb8(RGB[:, ::2]), RGB[:, ::2])


def test_16_bits_are_scaled_and_rounded():
    assert to_rgb8(np.array([[0, 257, 300, 65535]], np.uint16))[0, :, 0].tolist() == [0, 1, 1, 255]


def test_floating_point_is_taken_as_0_to_1_and_clipped():
    assert to_rgb8(np.array([[-1.0, 0.0, 0.5, 1.0, 7.0]]))[0, :, 0].tolist() == [0, 0, 128, 255, 255]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((4, 4), np.nan), "image has 16 NaN or infinite values; replace them first"),
        (np.array([[0.5, np.inf]]), "image has 1 NaN or infinite values"),
        (np.zeros((4, 4), np.int32), "dtype int32; it must be uint8, uint16 or floating point"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\); it must be \(H, W\), \(H, W, 3\) or"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \(0, 4, 3\); it has no pixels"),
    ],
)
def test_to_rgb8_rejects_other_arrays(image, words):
    with pytest.raises(ImageError, match=words):
        to_rgb8(image)


def test_16_bits_become_the_nearest_of_8_bits():
    values = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_uint8(values), (values / 257).round())


def test_8_bits_are_not_copied():
    assert to_uint8(RGB) is RGB
