"""The embedded network: small, and better than what sees no picture."""

from pathlib import Path

import numpy as np
import pytest

from redepth_ros.models.depth_anything import TINY, DepthAnything

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
    errors = mean_abs_rel(bench, tiny, bench.real(PAIRS))
    assert errors["tiny"] < 0.97 * errors["ground plane"]
    assert errors["tiny"] < 0.8 * errors["constant depth"]
