"""Scale and shift from anchors, in spite of outliers."""

import numpy as np
import pytest
import torch

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_fit import check_unit, fit_scale


def scene(count=200, noise=0.01, outliers=0.0, residual_stddev=0.0, seed=0, scale=6.0, shift=0.4):
    """Return disparity and measured depth of pixels between 1 and 8 m."""
    rng = np.random.default_rng(seed)
    depth = rng.uniform(1.0, 8.0, count)
    disparity = scale / depth - shift + residual_stddev * rng.standard_normal(count)
    measured = depth * (1.0 + noise * rng.standard_normal(count))
    wrong = rng.permutation(count)[: int(outliers * count)]
    measured[wrong] = rng.uniform(1.0, 8.0, len(wrong))
    return disparity, measured


@pytest.mark.parametrize(("outliers", "within"), [(0.0, 0.01), (0.1, 0.01), (0.5, 0.05)])
def test_a_fit_finds_the_scale_in_spite_of_outliers(outliers, within):
    for seed in range(40):
        found = fit_scale(*scene(outliers=outliers, seed=seed)).scale
        assert found.scale == pytest.approx(6.0, rel=within)
        assert found.shift == pytest.approx(0.4, abs=0.06)


def test_the_scale_of_a_metric_network_has_no_shift():
    disparity, depth = scene(shift=0.0, outliers=0.3)
    found = fit_scale(disparity, depth, fit_shift=False).scale
    assert found.shift == 0.0
    assert found.scale == pytest.approx(6.0, rel=0.01)
    assert found.covariance[1:] == (0.0, 0.0)
    wall = fit_scale(np.full(100, 2.0), np.full(100, 1.5), fit_shift=False).scale
    assert wall.scale == pytest.approx(3.0)


def test_the_covariance_is_that_of_repeated_fits():
    found = [fit_scale(*scene(residual_stddev=0.05, seed=seed)).scale for seed in range(300)]
    logs, shifts = np.log([one.scale for one in found]), np.array([one.shift for one in found])
    predicted = np.mean([one.covariance for one in found], axis=0)
    assert np.sqrt(predicted[0]) == pytest.approx(logs.std(), rel=0.25)
    assert np.sqrt(predicted[2]) == pytest.approx(shifts.std(), rel=0.25)


def test_a_fit_reports_the_share_of_right_anchors_and_the_networks_error():
    fits = [fit_scale(*scene(residual_stddev=0.06, outliers=0.3, seed=seed)) for seed in range(20)]
    assert np.mean([one.agreeing for one in fits]) == pytest.approx(0.7, abs=0.1)
    fits = [fit_scale(*scene(residual_stddev=0.06, seed=seed)) for seed in range(20)]
    assert np.mean([one.residual_stddev for one in fits]) == pytest.approx(0.06 / 6.0, rel=0.2)
    assert min(one.agreeing for one in fits) > 0.95


def message_of_rejected(disparity, depth, **options):
    with pytest.raises(AnchorError) as error:
        fit_scale(disparity, depth, **options)
    return str(error.value)


def test_anchors_that_do_not_determine_the_scale_are_rejected_with_a_reason():
    disparity, depth = scene()
    assert "12 anchors where there is depth; at least 30" in message_of_rejected(disparity[:12], depth[:12])
    assert "0 anchors" in message_of_rejected(disparity, np.full(200, np.nan))
    assert "0 anchors" in message_of_rejected(disparity, -depth)
    assert "all at one depth" in message_of_rejected(np.full(200, 1.5), depth)
    assert "nearer where the predicted depth is farther" in message_of_rejected(-disparity, depth)
    rng = np.random.default_rng(0)
    assert message_of_rejected(rng.permutation(disparity), depth)


def wall(rng, nearest, farthest, network=0.02, count=200, scale=6.0, shift=0.4):
    """Return the same for a surface between two depths; the network has a relative error."""
    depth = rng.uniform(nearest, farthest, count)
    disparity = (scale / depth - shift) * (1.0 + network * rng.standard_normal(count))
    return disparity, depth * (1.0 + 0.01 * rng.standard_normal(count))


def test_anchors_at_one_depth_are_rejected_for_any_prediction():
    for seed in range(40):
        assert "all at one depth (2.9" in message_of_rejected(
            *wall(np.random.default_rng(seed), 3.0, 3.0, 0.03)
        )
    disparity, _ = scene()
    assert "all at one depth (3 to 3 m)" in message_of_rejected(disparity, np.full(200, 3.0))


def test_the_covariance_contains_the_dilution_of_a_narrow_range():
    """Regression dilution makes such a scale wrong by more than its scatter."""
    for nearest, farthest in ((2.9, 3.1), (2.7, 3.3), (2.0, 4.0)):
        found = [fit_scale(*wall(np.random.default_rng(seed), nearest, farthest)).scale for seed in range(40)]
        wrong = [abs(np.log(one.scale / 6.0)) / one.relative_stddev for one in found]
        assert np.mean(wrong) < 1.5
        depth = [float(one.depth(torch.tensor(6.0 / 3.0 - 0.4))) for one in found]
        np.testing.assert_allclose(depth, 3.0, rtol=0.03)


def test_two_surfaces_far_apart_are_both_fitted():
    """More than half of the anchors are on one of them, which alone has no slope."""
    for seed in range(40):
        rng = np.random.default_rng(seed)
        near, far = wall(rng, 0.98, 1.02, count=90), wall(rng, 2.9, 3.1, count=110)
        found = fit_scale(*(np.concatenate(both) for both in zip(near, far, strict=True))).scale
        assert found.scale == pytest.approx(6.0, rel=0.03)


def test_check_unit_tells_millimetres_from_metres():
    known = Scale(6.0)
    check_unit(Scale(60.0), known)
    with pytest.raises(AnchorError, match=r"1e[+]03 times as far .* look like millimetres taken for metres"):
        check_unit(Scale(6000.0), known)
    with pytest.raises(AnchorError, match="look like metres taken for millimetres"):
        check_unit(Scale(0.006), known)
