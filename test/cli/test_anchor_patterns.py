"""Simulated anchors."""

import numpy as np
import pytest

from redepth_ros.cli.anchor_patterns import ANCHOR_PATTERNS, OUTLIERS, sample_anchors
from redepth_ros.core.errors import ConfigError

SLOPE = np.linspace(2.0, 8.0, 100 * 60, dtype=np.float32).reshape(100, 60)


def test_sampled_anchors_are_measured_pixels_with_noise_and_outliers():
    truth = np.full((40, 50), 2.0, np.float32)
    truth[:20], truth[39] = np.nan, 8.0
    depth = sample_anchors(truth, 200, seed=3).to_depth()
    measured = np.isfinite(depth)
    assert measured.sum() == 200
    assert np.isfinite(truth[measured]).all()
    errors = np.abs(depth[measured] / truth[measured] - 1.0)
    assert (errors < 0.05).mean() >= 1.0 - OUTLIERS
    assert (errors > 0.05).mean() > OUTLIERS / 2
    np.testing.assert_array_equal(sample_anchors(truth, 200, seed=3).to_depth(), depth)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0.0, 0.0), (0.5, 0.4, 0.5), (1.0, 0.8, 1.0)])
def test_the_share_of_outliers(share, least, most):
    anchors = sample_anchors(SLOPE, 1000, seed=0, outliers=share)
    errors = np.abs(anchors.depth / SLOPE[anchors.rows, anchors.columns] - 1.0)
    assert least <= (errors > 0.06).mean() <= most


@pytest.mark.parametrize(("pattern", "lines"), [("lidar16", 16), ("lidar64", 64)])
def test_a_lidar_measures_rows(pattern, lines):
    anchors = sample_anchors(SLOPE, 2000, seed=0, pattern=pattern)
    assert len(np.unique(anchors.rows)) == lines
    assert anchors.rows.min() == 5
    assert anchors.rows.max() == 94
    assert len(anchors) == min(2000, lines * 60)


def test_a_corner_is_the_lower_left_quarter():
    anchors = sample_anchors(SLOPE, 300, seed=0, pattern="corner")
    assert len(anchors) == 300
    assert anchors.rows.min() >= 50
    assert anchors.columns.max() < 30


@pytest.mark.parametrize("pattern", ANCHOR_PATTERNS)
def test_a_pattern_without_measured_pixels(pattern):
    with pytest.raises(ConfigError, match=f"no pixel of the pattern '{pattern}' has a measured depth"):
        sample_anchors(np.full((40, 50), np.nan, np.float32), 10, seed=0, pattern=pattern)


def test_an_unknown_pattern_is_named():
    with pytest.raises(ConfigError, match="anchor pattern is 'stars'; it must be one of: random, lidar16"):
        sample_anchors(SLOPE, 10, seed=0, pattern="stars")
