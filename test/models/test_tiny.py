"""The embedded networks: small, and better than baselines that do not see the image."""

from pathlib import Path

import numpy as np
import pytest

from redepth_ros.cli.datasets import read_pairs
from redepth_ros.core.metrics import align_depth, depth_errors
from redepth_ros.models.pretrained import TINY_DEPTH
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

PAIRS = Path(__file__).parents[3] / "shared" / "data" / "rgbd"
HELD_OUT = 95_000_000
"""Seeds from here on were never used for training or for tuning."""
FARTHEST = 80.0


def relative_errors(tiny_depth, image, truth):
    """Return AbsRel of the network, of a constant and of a ground plane, each aligned to the truth."""
    valid = np.isfinite(truth) & (truth > 0) & (truth < FARTHEST)
    rows = np.mgrid[: truth.shape[0], : truth.shape[1]][0].astype(np.float64)
    measured = truth[valid]
    disparities = (tiny_depth.predict(image).numpy()[valid], np.ones(len(measured)), rows[valid])
    return [depth_errors(align_depth(one, measured), measured)["abs_rel"] for one in disparities]


def test_the_depth_network_is_small_and_of_its_published_class(tiny_depth):
    count = sum(parameter.numel() for parameter in tiny_depth.network.parameters())
    assert 1e6 < count < 2e6
    assert sum(path.stat().st_size for path in TINY_DEPTH.iterdir()) < 5 * 2**20
    assert type(tiny_depth.network).__name__ == "DepthAnythingForDepthEstimation"
    assert not tiny_depth.metric


def test_the_prior_is_small_and_of_its_published_classes(tiny_prior):
    folder = TINY_DEPTH.parent
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 12e6
    assert type(tiny_prior.unet).__name__ == "UNet2DConditionModel"
    assert not tiny_prior.needs_gpu
    assert type(tiny_prior.vae).__name__ == "AutoencoderTiny"


def test_held_out_rendered_scenes_have_a_smaller_error_than_baselines(tiny_depth):
    """A few scenes of bench/tiny_depth.py, at half of their size. Medians: streets have long tails."""
    textures = atlas()
    found = []
    for seed in range(HELD_OUT, HELD_OUT + 12):
        rendering = render(sample_scene(seed, len(textures[0]), 160, 120), textures)
        image = (rendering.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
        found.append(relative_errors(tiny_depth, image, rendering.depth.numpy()))
    error, constant, ground_plane = np.median(found, axis=0)
    assert error < 0.95 * ground_plane
    assert error < 0.7 * constant


def test_real_pairs_have_a_smaller_error_than_baselines(tiny_depth):
    if not PAIRS.is_dir():
        pytest.skip(f"no real RGB-D pairs: there is no {PAIRS}")
    found = [relative_errors(tiny_depth, pair.image(), pair.depth()) for pair in read_pairs(PAIRS)]
    error, constant, ground_plane = np.mean(found, axis=0)
    assert error < 0.93 * ground_plane
    assert error < 0.75 * constant
