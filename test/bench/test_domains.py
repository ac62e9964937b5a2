"""Held-out rendered images and the errors of their depth."""

import dataclasses

import numpy as np
import pytest
import torch

from bench.domains import TEST_ATLAS, TEST_SEED, best_plane, bound, draw, measure, visible
from redepth_ros.core.refine.settings import PRESETS
from training.scenes.worlds import sample_scene


def street():
    """A scene with sky, whose depth is infinite."""
    seeds = range(TEST_SEED, TEST_SEED + 50)
    seed = next(seed for seed in seeds if sample_scene(seed, 1).kind == "street")
    return draw("scenes", seed, TEST_ATLAS)


@pytest.mark.parametrize("domain", ["reliefs", "scenes"])
def test_the_true_disparity_has_no_error(domain):
    rendering, camera = draw(domain, TEST_SEED, TEST_ATLAS)
    errors = measure(0.3 + 2.0 / rendering.depth, rendering.depth, camera)
    assert errors["abs_rel"] == pytest.approx(0.0, abs=1e-5)
    assert errors["normal_angle"] < 0.2
    assert errors["delta_1_05"] == 1.0


def test_sky_and_what_is_far_does_not_count():
    rendering, camera = street()
    counted = visible(rendering.depth.numpy())
    assert 0.0 < counted.mean() < 1.0
    wrong_in_the_sky = torch.where(torch.from_numpy(counted), 1.0 / rendering.depth, 1e3)
    assert measure(wrong_in_the_sky, rendering.depth, camera)["abs_rel"] == pytest.approx(0.0, abs=1e-5)


def test_a_planes_fit_leaves_out_unknown_values():
    plane = np.add.outer(0.5 * np.arange(6.0), np.arange(8.0))
    known = plane.copy()
    known[2, 3] = np.nan
    np.testing.assert_allclose(best_plane(known), plane, atol=1e-9)


def test_the_bound_corrects_fast_errors_only():
    """Fine errors vanish; those that are slow in the trust region's radius stay."""
    rendering, _ = draw("reliefs", TEST_SEED, TEST_ATLAS)
    settings = dataclasses.replace(PRESETS["default"], trust_region_radius=0.05)
    truth = 5.0 / rendering.depth
    rows, columns = torch.meshgrid(*[torch.arange(float(side)) for side in truth.shape], indexing="ij")
    fine = 0.05 * torch.cos(np.pi * rows) * torch.cos(np.pi * columns)
    slow = 0.05 * torch.cos(2 * np.pi * rows / truth.shape[0])
    without_fine = (bound(truth + fine, rendering.depth, 0.0, settings) - truth).std() / fine.std()
    with_slow = (bound(truth + slow, rendering.depth, 0.0, settings) - truth).std() / slow.std()
    assert without_fine < 0.1
    assert with_slow > 0.5


def test_the_bound_corrects_a_disparity_that_sees_nothing():
    """A fit of the true to the flat disparity would have the scale 0, and correct nothing."""
    rendering, camera = draw("reliefs", TEST_SEED, TEST_ATLAS)
    flat = torch.full_like(rendering.depth, float((5.0 / rendering.depth).mean()) - 0.1)
    flat += 1e-3 * torch.rand(flat.shape, generator=torch.Generator().manual_seed(0))
    corrected = bound(flat, rendering.depth, 0.1, PRESETS["default"])
    before, after = (measure(one, rendering.depth, camera)["normal_angle"] for one in (flat, corrected))
    assert after < 0.5 * before
