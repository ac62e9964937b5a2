"""The free variables of ensemble members, and their optimiser."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch
from fakes_core import FakeDepthNetwork, bump_scene

from redepth_ros.core.refine.ensemble import DepthAverage, Ensemble
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.core.refine.settings import RefineSettings

SETTINGS = RefineSettings(steps=10, ensemble_size=2)
NETWORK = FakeDepthNetwork()
EMBEDDINGS = NETWORK.encode(bump_scene().pixels)


class Spy(FakeDepthNetwork):
    """Remembers the embeddings that were decoded."""

    decoded: Embeddings

    def decode(self, embeddings):
        self.decoded = embeddings
        return super().decode(embeddings)

    def fork(self):
        return self


def ensemble_of(network=NETWORK, size=2, learning_rate=0.1, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return Ensemble(network, EMBEDDINGS, size, settings, learning_rate)


def test_all_members_start_with_the_embeddings_of_the_image():
    decoded = ensemble_of(size=3).decode()
    assert decoded.shape == (3, 16, 16)
    torch.testing.assert_close(decoded, NETWORK.decode(EMBEDDINGS).expand(3, -1, -1))


def test_members_change_independently():
    ensemble = ensemble_of()
    before = ensemble.decode().detach()
    ensemble.descend(ensemble.decode()[0].sum())
    after = ensemble.decode().detach()
    assert (after[0] < before[0]).all()
    assert torch.equal(after[1], before[1])


def test_class_tokens_stay_constant():
    network = Spy()
    ensemble = ensemble_of(network)
    ensemble.descend(ensemble.decode().sum())
    ensemble.decode()
    for found, given in zip(network.decoded.constants, EMBEDDINGS.constants, strict=True):
        assert torch.equal(found, given.expand(2, -1, -1))
    for found, given in zip(network.decoded.features, EMBEDDINGS.features, strict=True):
        assert not torch.equal(found, given.expand(2, -1, -1))


def changes_of_steps(**changes):
    """Return the change of one embedding in each of 10 steps under a constant gradient."""
    network = Spy()
    ensemble, values = ensemble_of(network, 1, **changes), []
    for step in range(11):
        ensemble.decode()
        tokens = network.decoded.features[0][:, 1:]
        values.append(float(tokens.detach()[0, 0, 0]))
        ensemble.decay(step / 10)
        ensemble.descend(tokens.sum())
    return [earlier - later for earlier, later in pairwise(values)]


def test_learning_rates_decay_along_a_cosine():
    expected = [0.1 * 0.5 * (1.0 + math.cos(math.pi * step / 10)) for step in range(10)]
    assert changes_of_steps(cosine_decay=True) == pytest.approx(expected, rel=1e-3)


def test_learning_rates_are_constant_without_decay():
    assert changes_of_steps(cosine_decay=False) == pytest.approx([0.1] * 10, rel=1e-3)


def test_weight_decay_shrinks_the_embeddings():
    network = Spy()
    ensemble = ensemble_of(network, 1, weight_decay=0.5, cosine_decay=False)
    ensemble.decode()
    tokens = network.decoded.features[0][:, 1:].detach().clone()
    ensemble.descend(0.0 * ensemble.decode().sum())
    ensemble.decode()
    torch.testing.assert_close(network.decoded.features[0][:, 1:], tokens * (1.0 - 0.1 * 0.5))


def test_gradients_below_the_epsilon_of_adam_still_move_the_embeddings():
    ensemble = ensemble_of()
    before = ensemble.decode().detach()
    ensemble.descend(1e-9 * ensemble.decode().sum())
    moved = float((before - ensemble.decode().detach()).mean())
    assert moved == pytest.approx(0.11, rel=0.05)  # 0.1 of grey, and a tenth of it by the colours


def test_the_decoder_is_frozen_by_default():
    ensemble, forks = ensemble_of(), NETWORK.forks
    weights = [one.clone() for one in NETWORK.decoder_parameters()]
    ensemble.descend(ensemble.decode().sum())
    assert forks == NETWORK.forks == 0
    assert all(torch.equal(*pair) for pair in zip(weights, NETWORK.decoder_parameters(), strict=True))


def test_a_tuned_decoder_is_a_copy_that_the_members_share():
    network = FakeDepthNetwork()
    ensemble = ensemble_of(network, learning_rate=0.0, decoder_learning_rate=0.01)
    before = ensemble.decode().detach()
    ensemble.descend(ensemble.decode()[0].sum())
    after = ensemble.decode().detach()
    assert network.forks == 1
    assert (after < before).all()  # also of the second member
    torch.testing.assert_close(network.decode(EMBEDDINGS).expand(2, -1, -1), before)
    assert not any(one.requires_grad for one in network.decoder_parameters())


@pytest.mark.parametrize("learning_rate", [0.0, 0.05])
def test_the_scale_offset_is_optimised_at_its_own_learning_rate(learning_rate):
    ensemble = ensemble_of(scale_learning_rate=learning_rate)
    assert ensemble.scale_offset.shape == (2, 1, 1)
    ensemble.descend(ensemble.decode().sum() + ensemble.scale_offset.sum())
    torch.testing.assert_close(ensemble.scale_offset.detach(), torch.full((2, 1, 1), -learning_rate))


def test_kept_members_go_on_as_if_the_others_had_never_been_there():
    networks, settings = (Spy(), Spy()), {"scale_learning_rate": 0.05, "weight_decay": 0.1}
    kept, alone = (
        ensemble_of(network, size, **settings) for network, size in zip(networks, (3, 2), strict=True)
    )
    for step in range(6):
        if step == 3:
            kept.keep(2)
        for ensemble in (kept, alone):
            ensemble.decay(step / 6)
            ensemble.descend(
                (ensemble.decode().square().mean((-2, -1)) + ensemble.scale_offset[:, 0, 0]).sum()
            )
    assert kept.size == 2
    for network in networks:
        assert network.decoded.constants[0].shape[0] == 2
    assert torch.equal(kept.decode(), alone.decode())
    assert torch.equal(kept.scale_offset, alone.scale_offset)


def test_the_average_is_that_of_the_steps_from_the_start_on():
    average = DepthAverage(start=0.4)
    for step in range(1, 6):
        average = average.add(step / 5, torch.full((1, 2, 2), float(step)))
        expected = {1: 1.0, 2: 2.0, 3: 2.5, 4: 3.0, 5: 3.5}[step]
        assert float(average.mean()[0, 0, 0]) == pytest.approx(expected), step


def test_adding_to_an_average_leaves_the_earlier_one_and_the_depths_unchanged():
    depth = torch.ones(1, 2, 2)
    first = DepthAverage(start=0.0).add(0.5, depth)
    first.add(1.0, 3.0 * depth)
    assert torch.equal(depth, torch.ones(1, 2, 2))
    assert torch.equal(first.mean(), depth)


def test_the_average_of_the_first_members_can_be_kept():
    average = (
        DepthAverage(start=0.0).add(0.5, torch.ones(3, 2, 2)).keep(2).add(1.0, 3.0 * torch.ones(2, 2, 2))
    )
    assert torch.equal(average.mean(), 2.0 * torch.ones(2, 2, 2))
    assert DepthAverage(start=0.0).keep(2).total is None
