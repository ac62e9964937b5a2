"""Depth from anchors alone."""

import numpy as np
import pytest

from redepth_ros.cli.anchor_patterns import sample_anchors
from redepth_ros.cli.interpolation import interpolate_anchors
from redepth_ros.core.metric.anchors import Anchors

ROWS, COLUMNS = np.mgrid[0:60, 0:80]
PLANE = np.exp(0.5 + 0.01 * ROWS + 0.005 * COLUMNS).astype(np.float32)
"""Linear in ln depth."""


def interpolated(anchors):
    """Interpolated depth of all pixels, (60, 80)."""
    pixels = np.stack((ROWS.ravel(), COLUMNS.ravel()), axis=1)
    return interpolate_anchors(anchors, pixels).reshape(60, 80)


def make_anchors(rows, columns, depth):
    return Anchors(np.array(rows), np.array(columns), np.array(depth, np.float64), 60, 80)


def test_interpolation_is_linear_in_the_logarithm_and_nearest_outside():
    corners = ([10, 10, 50, 50], [10, 70, 10, 70])
    found = interpolated(make_anchors(*corners, PLANE[corners]))
    np.testing.assert_allclose(found[10:51, 10:71], PLANE[10:51, 10:71], rtol=1e-5)
    assert found[0, 0] == pytest.approx(PLANE[10, 10])
    assert found[59, 79] == pytest.approx(PLANE[50, 70])


@pytest.mark.parametrize("outliers", [0.0, 0.1, 0.3])
def test_outliers_are_dropped(outliers):
    found = interpolated(sample_anchors(PLANE, 300, seed=1, outliers=outliers))
    assert np.median(np.abs(found / PLANE - 1.0)) < 0.02
    assert np.mean(np.abs(found / PLANE - 1.0) > 0.1) <= 0.2 * outliers


@pytest.mark.parametrize(
    ("rows", "columns"),
    [([30], [40]), ([30, 40], [40, 5]), ([30, 30, 30, 30], [5, 20, 40, 70]), ([3, 4, 5, 6], [3, 4, 5, 6])],
)
def test_few_anchors_and_anchors_on_one_line(rows, columns):
    depth = PLANE[rows, columns]
    found = interpolated(make_anchors(rows, columns, depth))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[rows, columns], depth, rtol=1e-6)
