"""A scale that is steady from frame to frame, and follows a jump."""

import numpy as np
import pytest
import torch

from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_filter import ScaleFilter
from redepth_ros.core.metric.scale_fit import fit_scale


def measured(scale, shift=0.4):
    return Scale(scale, shift, (1e-4, 0.0, 1e-4))


def test_a_filtered_scale_is_steady_and_follows_a_jump():
    rng = np.random.default_rng(1)
    kept, published, raw = ScaleFilter(measurement_noise=0.05), [], []
    for frame in range(200):
        true = 5.0 if frame < 100 else 7.0
        raw.append(true * np.exp(0.05 * rng.standard_normal()))
        kept.update(0.1 * frame, measured(raw[-1], 0.08 * raw[-1]))
        published.append(kept.scale.scale)
    change = [np.std(np.diff(np.log(one[10:100]))) for one in (raw, published)]
    assert change[1] < 0.2 * change[0]
    assert abs(np.log(published[104] / 7.0)) < 0.1
    assert kept.scale.scale == pytest.approx(7.0, rel=0.05)


@pytest.mark.parametrize("jump", [0.5, 1.15, 1.3, 2.0])
def test_a_jump_is_followed_within_a_few_frames(jump):
    lags = []
    for seed in range(30):
        rng, kept = np.random.default_rng(seed), ScaleFilter(measurement_noise=0.05)
        for frame in range(60):
            raw = (5.0 if frame < 40 else 5.0 * jump) * np.exp(0.05 * rng.standard_normal())
            kept.update(0.1 * frame, measured(raw, 0.08 * raw))
            if frame >= 40 and abs(np.log(kept.scale.scale / 5.0 / jump)) < 0.5 * abs(np.log(jump)):
                lags.append(frame - 40)
                break
    assert len(lags) == 30
    assert np.median(lags) <= 3
    assert np.percentile(lags, 90) <= 5


def test_one_update_is_the_kalman_mean_of_state_and_measurement():
    """With the measurement noise in both covariances, the second measurement weighs a half."""
    kept = ScaleFilter(measurement_noise=0.1, process_noise=0.0)
    kept.update(0.0, Scale(5.0))
    kept.update(0.1, Scale(5.5))
    assert 1.0 / kept.scale.scale == pytest.approx(0.5 * (1 / 5.0 + 1 / 5.5), rel=1e-3)
    assert kept.scale.relative_stddev == pytest.approx(0.1 / np.sqrt(2.0), rel=0.1)


def test_process_noise_grows_the_uncertainty_with_time():
    kept = ScaleFilter(measurement_noise=0.05, process_noise=0.02)
    kept.update(0.0, Scale(5.0))
    kept.advance(4.0)
    assert kept.scale.relative_stddev == pytest.approx(np.hypot(0.05, 0.02 * 2.0), rel=1e-3)
    assert kept.scale.scale == pytest.approx(5.0)


def test_slow_drift_is_followed():
    kept = ScaleFilter(measurement_noise=0.05, process_noise=0.05)
    for frame in range(400):
        kept.update(0.1 * frame, measured(5.0 * np.exp(0.001 * frame)))
    assert kept.scale.scale == pytest.approx(5.0 * np.exp(0.4), rel=0.05)


def test_without_measurement_noise_every_measurement_is_followed():
    kept = ScaleFilter(measurement_noise=0.0)
    for frame, scale in enumerate((5.0, 5.4, 4.7, 15.0)):
        assert kept.update(0.1 * frame, measured(scale))
        assert kept.scale.scale == pytest.approx(scale)


def test_a_single_outlier_is_rejected():
    kept = ScaleFilter()
    for frame in range(10):
        assert kept.update(0.1 * frame, measured(5.0))
    assert not kept.update(1.0, measured(15.0))
    assert kept.scale.scale == pytest.approx(5.0, rel=0.01)
    assert kept.age == pytest.approx(0.1)
    for frame in range(10):
        assert kept.update(1.1 + 0.1 * frame, measured(5.0))
    assert kept.scale.scale == pytest.approx(5.0, rel=0.01)


def test_a_lost_scale_is_kept_grows_uncertain_and_recovers():
    kept = ScaleFilter(timeout=1.0)
    assert kept.scale is None
    kept.update(0.0, measured(5.0))
    assert not kept.lost
    kept.advance(1.0)
    assert not kept.lost
    certain = kept.scale.relative_stddev
    kept.advance(30.0)
    assert kept.lost
    assert kept.age == 30.0
    assert kept.scale.scale == pytest.approx(5.0)
    assert kept.scale.relative_stddev > certain
    kept.update(30.1, measured(5.0))
    kept.update(30.2, measured(5.0))
    assert kept.lost, "recovers with the third measurement"
    kept.update(30.3, measured(5.0))
    assert not kept.lost


def test_a_clock_that_jumps_back_starts_anew():
    kept = ScaleFilter()
    kept.update(100.0, measured(5.0))
    kept.advance(3.0)
    assert kept.scale is None
    assert kept.update(3.1, measured(9.0))
    assert kept.scale.scale == pytest.approx(9.0)


def test_the_scale_is_kept_in_front_of_a_wall():
    """Fits to a narrow range of depth are uncertain, and do not spoil what a wide range showed."""
    for seed in range(6):
        rng, kept = np.random.default_rng(seed), ScaleFilter()
        for frame in range(60):
            nearest, farthest = (1.0, 8.0) if frame < 30 else (2.9, 3.1)
            depth = rng.uniform(nearest, farthest, 200)
            disparity = (6.0 / depth - 0.4) * (1.0 + 0.02 * rng.standard_normal(200))
            kept.update(
                0.1 * frame, fit_scale(disparity, depth * (1 + 0.01 * rng.standard_normal(200))).scale
            )
        for depth in (1.0, 3.0, 10.0):
            found = float(kept.scale.depth(torch.tensor(6.0 / depth - 0.4)))
            assert found == pytest.approx(depth, rel=0.02)
