"""Networks of the published sizes with random weights."""

import numpy as np
import pytest
import torch

from redepth_ros.models import random_networks
from redepth_ros.models.random_networks import DEPTH_SIZES, random_depth_network, random_stable_diffusion


@pytest.fixture
def without_memory(monkeypatch):
    """Networks have shapes only."""
    monkeypatch.setattr(random_networks, "pick_device", lambda name: torch.device("meta"))


def parameters(network) -> int:
    return sum(one.numel() for one in network.parameters())


@pytest.mark.parametrize("size", DEPTH_SIZES)
def test_depth_networks_have_the_published_sizes(without_memory, size):
    assert parameters(random_depth_network(size).network) == DEPTH_SIZES[size].parameters


def test_stable_diffusion_has_its_published_size(without_memory):
    prior = random_stable_diffusion()
    assert (parameters(prior.unet), parameters(prior.vae)) == (859_520_964, 83_653_863)
    assert prior.latent_shape(480, 640) == (4, 64, 64)
    assert not prior.light_conditioned
    assert prior.needs_gpu


def test_tiny_autoencoder_has_the_size_of_taesd(without_memory):
    prior = random_stable_diffusion(tiny_vae=True)
    assert parameters(prior.vae) == 2_445_063
    assert prior.latent_shape(480, 640) == (4, 64, 64)


def test_random_depth_network_predicts():
    network = random_depth_network("Small", device="cpu")
    disparity = network.predict(np.zeros((30, 40, 3), np.uint8), 28)
    assert disparity.shape == (30, 40)
    assert bool((disparity > 0.0).all())
