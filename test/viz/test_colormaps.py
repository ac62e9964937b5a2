"""Colours of depth maps and normals."""

import warnings

import numpy as np
import pytest

from redepth_ros.viz.colormaps import INVALID_GREY, colorize_depth, colorize_normals


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_colorize_depth_is_linear_in_inverse_depth_and_near_is_bright():
    inverse = np.linspace(0.1, 1.0, 256, dtype=np.float32)
    colours = colorize_depth(np.tile(1.0 / inverse, (8, 1)))
    assert (colours.shape, colours.dtype) == ((8, 256, 3), np.uint8)
    brightness = colours[0].astype(int).sum(axis=1)
    assert brightness[-1] > brightness[128] > brightness[0]
    assert np.all(np.diff(brightness) >= -3)


@pytest.mark.parametrize("invalid", [np.nan, np.inf, -np.inf, 0.0, -1.0])
def test_colorize_depth_shows_invalid_pixels_in_black(invalid):
    depth = np.linspace(1.0, 5.0, 64, dtype=np.float32).reshape(8, 8)
    expected = colorize_depth(depth)
    depth[3, 5] = invalid
    colours = colorize_depth(depth)
    assert not colours[3, 5].any()
    colours[3, 5] = expected[3, 5]
    np.testing.assert_allclose(colours.astype(int), expected, atol=30)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_colorize_depth_of_a_map_without_valid_pixels_is_black(value):
    assert not colorize_depth(np.full((6, 8), value, np.float32)).any()


def test_colorize_depth_of_a_constant_map_has_one_colour():
    colours = colorize_depth(np.full((6, 8), 2.0, np.float32))
    assert (colours == colours[0, 0]).all()


def test_colorize_normals_names_directions_by_colours():
    normals = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1], [np.nan] * 3], np.float32).T.reshape(3, 1, 4)
    right, up, towards, invalid = colorize_normals(normals)[0]
    np.testing.assert_allclose(right, [1.0, 0.5, 0.5])
    np.testing.assert_allclose(up, [0.5, 1.0, 0.5])
    np.testing.assert_allclose(towards, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(invalid, INVALID_GREY)
