"""Colours of depth maps and normals."""

import warnings

import numpy as np
import pytest

from redepth_ros.viz.colormaps import (
    INVALID_GREY,
    MAX_RELATIVE_STDDEV,
    colorize_depth,
    colorize_normals,
    colorize_stddev,
    depth_limits,
)


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


def test_depth_limits_are_percentiles_of_the_inverse_depth():
    inverse = np.linspace(0.1, 1.1, 400, dtype=np.float32)
    near, far = depth_limits(np.tile(1.0 / inverse, (8, 1)))
    assert (1.0 / near, 1.0 / far) == pytest.approx((1.08, 0.12), abs=0.01)
    assert depth_limits(np.full((6, 8), np.nan, np.float32)) is None


def test_colorize_depth_by_limits_compares_two_maps():
    depth = np.linspace(1.0, 5.0, 64, dtype=np.float32).reshape(8, 8)
    limits = depth_limits(depth)
    assert (colorize_depth(depth, limits) == colorize_depth(depth)).all()
    assert (colorize_depth(2 * depth) == colorize_depth(depth)).all()
    farther = colorize_depth(2 * depth, limits)
    assert farther.sum() < colorize_depth(depth).sum()
    beyond = colorize_depth(np.array([[0.01, 100.0]], np.float32), limits)[0].astype(int).sum(axis=1)
    assert beyond[0] > 600 > 10 > beyond[1]


def test_colorize_stddev_is_relative_and_invalid_is_black():
    depth = np.array([[1.0, 2.0, 2.0, np.nan, 2.0, 0.0]], np.float32)
    stddev = MAX_RELATIVE_STDDEV * np.array([[1.0, 2.0, 4.0, 1.0, np.nan, 1.0]], np.float32)
    colours = colorize_stddev(stddev, depth)[0]
    assert (colours[:3] == colours[0]).all()
    assert not colours[3:].any()
    half = colorize_stddev(0.5 * stddev, depth)[0]
    assert half[0].astype(int).sum() < colours[0].astype(int).sum()


def test_colorize_normals_names_directions_by_colours():
    normals = np.array([[1, 0, 0], [0, -1, 0], [0, 0, -1], [np.nan] * 3], np.float32).T.reshape(3, 1, 4)
    right, up, towards, invalid = colorize_normals(normals)[0]
    np.testing.assert_allclose(right, [1.0, 0.5, 0.5])
    np.testing.assert_allclose(up, [0.5, 1.0, 0.5])
    np.testing.assert_allclose(towards, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(invalid, INVALID_GREY)
