"""The global scale where one surface holds most of the anchors."""

import numpy as np
import pytest

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale_fit import fit_scale


def anchors(share, tilt, error, seed, outliers=0.0, count=200):
    """Disparity and depth of anchors on a wall at 8 m and on an object at 3 m, and the object's disparity.

    Smooth relative errors of the network: one for the object, a gradient over the wall.
    """
    rng = np.random.default_rng(seed)
    held = round(share * count)
    across = rng.uniform(-0.6, 0.6, held)
    wall = 8.0 / (1.0 + np.tan(np.radians(tilt)) * across)
    depth = np.concatenate((wall, np.full(count - held, 3.0)))
    waves = np.sin(4.0 * across + rng.uniform(0.0, 6.3)) * 1.4
    own = np.clip(rng.standard_normal(), -1.5, 1.5) + 0.1 * rng.standard_normal(count - held)
    disparity = 6.0 / depth * (1.0 + error * np.concatenate((waves, own))) - 0.4
    measured = depth + 0.02 * rng.standard_normal(count)
    wrong = rng.permutation(count)[: int(outliers * count)]
    measured[wrong] = rng.uniform(1.0, 10.0, len(wrong))
    return disparity, measured, float(disparity[held:].mean())


@pytest.mark.parametrize("share", [0.6, 0.75, 0.85, 0.95])
@pytest.mark.parametrize("tilt", [0.0, 5.0, 10.0, 20.0])
@pytest.mark.parametrize("error", [0.02, 0.05, 0.1])
def test_wall_does_not_collapse_the_scale(share, tilt, error):
    for seed in range(6):
        disparity, depth, at_object = anchors(share, tilt, error, seed)
        try:
            scale = fit_scale(disparity, depth).scale
        except AnchorError:
            continue
        assert scale.scale / (at_object + scale.shift) == pytest.approx(3.0, rel=0.2)


def test_wall_with_outliers_does_not_collapse_the_scale():
    fitted = 0
    for seed in range(20):
        disparity, depth, at_object = anchors(0.75, 5.0, 0.05, seed, outliers=0.1)
        try:
            scale = fit_scale(disparity, depth).scale
        except AnchorError:
            continue
        fitted += 1
        assert scale.scale / (at_object + scale.shift) == pytest.approx(3.0, rel=0.2)
    assert fitted >= 10


def test_most_walls_are_fitted_and_not_refused():
    fitted = 0
    for seed in range(20):
        disparity, depth, _ = anchors(0.75, 5.0, 0.05, seed)
        try:
            fit_scale(disparity, depth)
        except AnchorError:
            continue
        fitted += 1
    assert fitted >= 15


def test_single_object_does_not_determine_the_scale():
    rng = np.random.default_rng(0)
    depth = 3.0 + 0.03 * rng.standard_normal(200)
    with pytest.raises(AnchorError, match="measure near and far"):
        fit_scale(6.0 / 3.0 * (1.0 + 0.05 * rng.standard_normal(200)) - 0.4, depth)


def test_network_with_a_uniform_error_is_fitted_as_before():
    """The guard leaves a fit alone that gives every surface its depth."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        depth = rng.uniform(1.0, 8.0, 200)
        disparity = (6.0 / depth) * (1.0 + 0.03 * rng.standard_normal(200)) - 0.4
        found = fit_scale(disparity, depth).scale
        assert found.scale == pytest.approx(6.0, rel=0.04)
