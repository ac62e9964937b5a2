"""The embedded network: small, and better than what sees no picture."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from redepth_ros.cli.datasets import read_pairs
from redepth_ros.models.depth_anything import TINY, DepthAnything
from redepth_ros.models.diffusion import DiffusionPrior

PAIRS = Path(__file__).parents[3] / "shared" / "data" / "rgbd"


@pytest.fixture(scope="module")
def tiny():
    return DepthAnything.load("tiny", device="cpu")


def mean_abs_rel(bench, tiny, pictures):
    found = [bench.errors(tiny, image, truth) for _, image, truth in pictures]
    return {name: np.mean([one[name]["abs_rel"] for one in found]) for name in found[0]}


def test_it_is_small_and_of_the_genuine_format(tiny):
    count = sum(parameter.numel() for parameter in tiny.network.parameters())
    assert 1e6 < count < 2e6
    assert sum(path.stat().st_size for path in TINY.iterdir()) < 5 * 2**20
    assert type(tiny.network).__name__ == "DepthAnythingForDepthEstimation"
    assert not tiny.metric


def test_on_held_out_rendered_scenes_it_beats_constant_and_ground_plane(tiny, load_script):
    bench = load_script("bench/tiny_depth.py")
    errors = mean_abs_rel(bench, tiny, bench.rendered(40))
    assert errors["tiny"] < 0.85 * errors["ground plane"]
    assert errors["tiny"] < 0.7 * errors["constant depth"]


def test_on_real_pairs_it_beats_constant_and_ground_plane(tiny, load_script):
    if not PAIRS.is_dir():
        pytest.skip(f"no real RGB-D pairs: there is no {PAIRS}")
    bench = load_script("bench/tiny_depth.py")
    pairs = ((pair.name, pair.image(), pair.depth()) for pair in read_pairs(PAIRS))
    errors = mean_abs_rel(bench, tiny, pairs)
    assert errors["tiny"] < 0.97 * errors["ground plane"]
    assert errors["tiny"] < 0.8 * errors["constant depth"]


def test_the_embedded_pair_is_small_and_of_the_genuine_formats():
    folder = TINY.parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12e6
    prior = DiffusionPrior.load("tiny", device="cpu")
    assert type(prior.unet).__name__ == "UNet2DConditionModel"
    assert type(prior.coder).__name__ == "AutoencoderTiny"


def test_refinement_makes_held_out_reliefs_better_and_a_random_prior_does_not(load_script):
    """A few of the scenes of bench/refinement_gain.py, which has intervals and more controls."""
    bench = load_script("bench/refinement_gain.py")
    settings = dataclasses.replace(bench.FAST, members=2)
    changes = {}
    for variant in ("refined", "random prior"):
        found = [
            bench.refine((variant, settings, seed, bench.TEST_ATLAS, "tiny"))
            for seed in range(bench.TEST_SEED, bench.TEST_SEED + 6)
        ]
        for key in ("abs_rel", "normal_angle"):
            before, after = (np.mean([one[when][key] for one in found]) for when in ("fast", "errors"))
            changes[variant, key] = after / before - 1.0
    assert changes["refined", "abs_rel"] < -0.05
    assert changes["refined", "normal_angle"] < -0.1
    assert changes["random prior", "abs_rel"] > 0.0
