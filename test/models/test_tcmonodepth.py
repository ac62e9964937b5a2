"""A genuine depth network whose embeddings are maps: the adapter, and refinement with it."""

import dataclasses

import numpy as np
import pytest
import torch

from redepth_ros.core.errors import ImageError
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.core.refine.result import Outcome
from redepth_ros.core.refine.run import Refiner
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.diffusion import DiffusionPrior
from training.tcmonodepth import WEIGHTS, TcMonoDepth

REFERENCE = WEIGHTS.with_name("reference.npz")
SHORT = RefineSettings(steps=3, ensemble_size=2)

pytestmark = pytest.mark.skipif(not WEIGHTS.exists(), reason=f"no weights at {WEIGHTS}")


@pytest.fixture(scope="module")
def model():
    return TcMonoDepth.load(shorter_side=96)


@pytest.fixture(scope="module")
def prior():
    return DiffusionPrior.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def image():
    return np.load(REFERENCE)["pixels"][0].transpose(1, 2, 0)


class Scaled(TcMonoDepth):
    """The same network with another unit of disparity."""

    factor = 8.0

    def decode(self, embeddings: Embeddings) -> torch.Tensor:
        return self.factor * super().decode(embeddings)

    def fork(self) -> "Scaled":
        forked = super().fork()
        return Scaled(forked.encoder, forked.decoder, forked.shorter_side)


def refine(model, prior, image, settings=SHORT):
    run = Refiner(model, prior, settings).start(model.preprocess(image))
    for _ in run.steps():
        pass
    return run.result()


def test_features_and_disparity_are_the_reference(model):
    reference = np.load(REFERENCE)
    embeddings = model.encode(torch.from_numpy(reference["pixels"]).float() / 255.0)
    for number, feature in enumerate(embeddings.features):
        torch.testing.assert_close(feature, torch.from_numpy(reference[f"feature{number}"]))
    torch.testing.assert_close(model.decode(embeddings), torch.from_numpy(reference["disparity"][0]))


def test_pixels_are_the_image(model, image):
    pixels = model.preprocess(image)
    assert pixels.shape == (1, 3, 96, 128)
    np.testing.assert_array_equal((model.image(pixels)[0] * 255.0).permute(1, 2, 0).numpy(), image)
    assert model.preprocess(image, 64).shape == (1, 3, 64, 64)


def test_rejects_sizes_between_multiples(model):
    with pytest.raises(ImageError, match="multiples of 32"):
        model.encode(torch.zeros(1, 3, 100, 128))


def test_a_fork_has_a_decoder_of_its_own(model):
    before = [weight.clone() for weight in model.decoder_parameters()]
    with torch.no_grad():
        for weight in model.fork().decoder_parameters():
            weight.add_(1.0)
    assert all(torch.equal(*pair) for pair in zip(before, model.decoder_parameters(), strict=True))


def test_refines_features_of_any_shape(model, prior, image):
    result = refine(model, prior, image)
    assert result.outcome is Outcome.REFINED
    assert result.refined.shape == (96, 128)
    assert result.relative_stddev.max() > 0
    tuned = refine(model, prior, image, dataclasses.replace(SHORT, decoder_learning_rate=1e-4))
    assert not torch.equal(tuned.refined, result.refined)


def test_the_unit_of_the_network_does_not_matter(model, prior, image):
    one = refine(model, prior, image)
    other = refine(Scaled(model.encoder, model.decoder, 96), prior, image)
    assert other.outcome is one.outcome
    torch.testing.assert_close(other.fast_depth, one.fast_depth)
    torch.testing.assert_close(other.depth, one.depth, rtol=1e-3, atol=0)
    torch.testing.assert_close(other.refined, 8.0 * one.refined, rtol=1e-3, atol=0)


def test_keeps_the_fast_depth_where_the_prior_does_not_see_the_shape(model, prior, image):
    result = refine(model, prior, image, dataclasses.replace(SHORT, steps=160, max_early_loss_ratio=0.01))
    assert result.outcome is Outcome.KEPT_FAST
    assert "does not see the shape" in result.message
    assert len(result.history) == 20
    assert torch.equal(result.refined, result.fast)
