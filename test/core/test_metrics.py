"""Measures of depth error, against the authors' own evaluation code."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ImageError
from redepth_ros.core.metrics import align_depth, bootstrap_mean, boundary_f1, depth_errors, normal_error

DATA = Path(__file__).parent / "data"

# Our names, and those of the published evaluation.
NAMES = {
    "abs_rel": "abs_rel",
    "sq_rel": "sq_rel",
    "rmse": "rmse",
    "rmse_log": "rmse_log",
    "log10": "log_10",
    "silog": "silog",
    "delta1": "a1",
    "delta2": "a2",
    "delta3": "a3",
}


def test_the_authors_evaluation_is_reproduced():
    with np.load(DATA / "evaluate_0.npz") as stored:
        mask = stored["mask"].astype(bool)
        truth, disparity = stored["gt"][mask], stored["disparity"][mask]
    expected = json.loads((DATA / "evaluate_0.json").read_text())
    found = depth_errors(align_depth(disparity, truth), truth)
    for ours, theirs in NAMES.items():
        assert found[ours] == pytest.approx(expected[theirs], rel=1e-5), ours


def test_a_disparity_off_by_scale_and_shift_only_has_no_error():
    truth = np.linspace(1.0, 9.0, 100)
    found = depth_errors(align_depth(4.0 / truth + 0.3, truth), truth)
    assert found["abs_rel"] == pytest.approx(0.0, abs=1e-9)
    assert found["delta1"] == 1.0


def test_a_fitted_disparity_below_zero_is_far_not_behind_the_camera():
    truth = np.linspace(1.0, 9.0, 100)
    disparity = 1.0 / truth
    disparity[50] = -3.0
    depth = align_depth(disparity, truth)
    assert depth[50] == depth.max()


def test_each_delta_has_its_own_ratio():
    truth = np.ones(8)
    depth = np.array([1.0, 1.2, 1.3, 1.5, 1.6, 1.9, 2.0, 0.7])
    found = depth_errors(depth, truth)
    assert (found["delta1"], found["delta2"], found["delta3"]) == (2 / 8, 5 / 8, 7 / 8)


def test_alignment_needs_two_pixels():
    with pytest.raises(ImageError, match="1 valid pixels: an alignment needs at least 2"):
        align_depth(np.ones(1), np.ones(1))


def test_boundary_f1_of_the_same_edges_is_one_at_any_scale():
    truth = np.ones((8, 8))
    truth[:, 4:] = 2.0
    assert boundary_f1(truth, truth) == 1.0
    assert boundary_f1(3.0 * truth, truth) == 1.0
    assert boundary_f1(np.ones((8, 8)), truth) == 0.0
    assert boundary_f1(truth[:, ::-1], truth) == 0.0  # the step is in the other direction


def test_boundary_f1_halves_its_precision_for_as_many_wrong_edges():
    truth = np.ones((8, 8))
    truth[:, 4:] = 2.0
    predicted = truth.copy()
    predicted[4:] *= 2.0  # 8 wrong edges beside 8 right ones
    assert boundary_f1(predicted, truth) == pytest.approx(2 / 3)


def test_boundary_f1_without_true_edges_is_nan():
    assert math.isnan(boundary_f1(np.ones((4, 4)), np.ones((4, 4))))


def test_boundary_f1_leaves_out_invalid_pixels():
    truth = np.ones((8, 8))
    truth[:, 4:] = 2.0
    predicted = truth.copy()
    predicted[4:, 3] = np.nan
    assert boundary_f1(predicted, truth) == 1.0


def test_normal_error_is_the_angle_between_planes():
    camera = PinholeCamera.centered(20.0, 16, 12)
    rays = camera.rays().numpy()
    slope = np.tan(np.deg2rad(30.0))
    tilted = 2.0 / (1.0 - slope * rays[0])  # z = 2 + slope * x
    wall = np.full((12, 16), 2.0)
    assert normal_error(wall, wall, camera) == pytest.approx(0.0, abs=0.05)
    assert normal_error(tilted, wall, camera) == pytest.approx(30.0, abs=0.05)
    tilted[3, 3] = np.nan
    assert normal_error(tilted, wall, camera) == pytest.approx(30.0, abs=0.05)


def test_bootstrap_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    mean, low, high = bootstrap_mean(np.append(values, np.nan))
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 * 2.0 / np.sqrt(400), rel=0.15)
    assert low < mean < high
