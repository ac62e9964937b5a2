"""SDS guidance of one image, by a prior that knows the true shape."""

import dataclasses
import math

import pytest
import torch
from fakes_core import FakeDepthNetwork, FakePrior, bump_scene

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.refine.guidance import Interrupted, SdsGuidance
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.relighting import relight

SCENE = bump_scene()
VIEW = OrthographicCamera().view()
SETTINGS = RefineSettings(ensemble_size=2, lights_per_step=3)


def fast_normals(count=1):
    """Return normals of the fast depth, and of flatter ones: (count, 3, 16, 16)."""
    network = FakeDepthNetwork()
    depth = 7.0 / (network.decode(network.encode(SCENE.pixels)) + 0.1)
    return torch.cat([OrthographicCamera().normals(depth / (1.0 + number)) for number in range(count)])


def guidance_of(prior=None, image=SCENE.pixels, **changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    return SdsGuidance(prior or FakePrior(SCENE.normals), image, "a bump", settings)


def sample(guidance, count=6, seed=0, progress=0.0, **changes):
    samples = guidance.sample(count, torch.Generator().manual_seed(seed), progress)
    return dataclasses.replace(samples, **changes)


def plain_loss(prior, normals, samples, guidance_scale, lights_per_shape):
    """Return the SDS loss in one expression, without batches, loss scaling or mirroring."""
    shaded = normals.repeat_interleave(lights_per_shape, dim=0)
    latents = prior.encode(relight(SCENE.pixels, shaded, VIEW, samples.lighting), samples.vae_noise)
    alpha = prior.alphas[samples.t, None, None, None]
    noised = (alpha.sqrt() * latents + (1.0 - alpha).sqrt() * samples.noise).detach()
    condition = prior.condition(SCENE.pixels, "")
    lit, unlit = (
        prior.predict_noise(noised, samples.t, condition, samples.lighting, c) for c in (True, False)
    )
    score = (lit + guidance_scale * (lit - unlit) - samples.noise).detach()
    return 0.5 * (latents - (latents - score).detach()).square().mean()


@pytest.mark.parametrize("guidance_scale", [0.0, 3.0])
@pytest.mark.parametrize("sample_latents", [False, True])
def test_the_gradient_is_that_of_the_plain_loss(guidance_scale, sample_latents):
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior, guidance_scale=guidance_scale, sample_latents=sample_latents)
    samples = sample(guidance, mirrored=False)
    normals = fast_normals(2).requires_grad_()
    expected = plain_loss(prior, normals, samples, guidance_scale, 3)
    expected.backward()
    gradient, loss = guidance.gradient(normals.detach(), VIEW, samples)
    assert loss == pytest.approx(expected.item(), rel=1e-4)
    torch.testing.assert_close(gradient, normals.grad, rtol=1e-3, atol=1e-7)


def test_a_step_against_the_gradient_brings_the_normals_nearer_to_the_truth():
    guidance, normals = guidance_of(), fast_normals()
    error = (normals - SCENE.normals).square().mean()
    for seed in range(60):
        gradient, _ = guidance.gradient(normals, VIEW, sample(guidance, seed=seed))
        normals = torch.nn.functional.normalize(normals - 200.0 * gradient, dim=1)
    assert (normals - SCENE.normals).square().mean() < 0.5 * error


def test_the_true_shape_has_no_loss():
    guidance = guidance_of()
    for seed in range(4):  # mirrored and not
        assert guidance.loss(SCENE.normals[None], VIEW, sample(guidance, seed=seed)) < 1e-8
        assert guidance.loss(fast_normals(), VIEW, sample(guidance, seed=seed)) > 1e-4


@pytest.mark.parametrize("batch_size", [1, 4, 6])
def test_batches_do_not_change_loss_and_gradient(batch_size):
    guidance = guidance_of(sample_latents=True)
    samples, normals = sample(guidance), fast_normals(2)
    gradient, loss = guidance.gradient(normals, VIEW, samples)
    guidance.batch_size = batch_size
    found, same = guidance.gradient(normals, VIEW, samples)
    assert same == pytest.approx(loss, rel=1e-4)
    torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-7)
    assert guidance.loss(normals[:1], VIEW, samples) > 0


def test_the_loss_of_one_shape_is_that_of_its_gradient():
    guidance = guidance_of()
    samples, normals = sample(guidance), fast_normals()
    _, loss = guidance.gradient(normals, VIEW, samples)
    assert guidance.loss(normals, VIEW, samples) == pytest.approx(loss, rel=1e-4)


def test_the_batch_size_is_that_of_a_step_unless_it_is_set():
    assert guidance_of().batch_size == 6
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior, relit_batch_size=4)
    guidance.gradient(fast_normals(2), VIEW, sample(guidance))
    assert prior.encoded == [4, 2]


def test_a_mirrored_scene_seen_mirrored_is_the_scene():
    guidance, normals = guidance_of(), fast_normals()
    samples = sample(guidance, mirrored=False)
    expected, loss = guidance.gradient(normals, VIEW, samples)
    flip = torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    twin = guidance_of(FakePrior(SCENE.normals.flip(-1) * flip), SCENE.pixels.flip(-1))
    mirrored = dataclasses.replace(samples, mirrored=True, lighting=samples.lighting.mirrored())
    found, same = twin.gradient(normals.flip(-1) * flip, VIEW, mirrored)
    assert same == pytest.approx(loss, rel=1e-3)
    torch.testing.assert_close(found.flip(-1) * flip, expected, rtol=1e-3, atol=1e-7)


def test_the_prior_sees_mirrored_images_with_mirrored_lights_and_their_condition():
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior)
    samples = sample(guidance, mirrored=True)
    guidance.loss(fast_normals(), VIEW, samples)
    call = prior.calls[-1]
    assert call.condition.mirrored
    assert torch.equal(call.condition.image, SCENE.pixels.flip(-1))
    assert torch.equal(call.lighting.direction[:, 0], -samples.lighting.direction[:, 0])
    guidance.loss(fast_normals(), VIEW, dataclasses.replace(samples, mirrored=False))
    assert not prior.calls[-1].condition.mirrored
    assert torch.equal(prior.calls[-1].lighting.direction, samples.lighting.direction)


def test_half_of_the_steps_are_mirrored_if_asked_for():
    generator = torch.Generator().manual_seed(0)
    guidance = guidance_of()
    assert 60 < sum(guidance.sample(1, generator, 0.0).mirrored for _ in range(200)) < 140
    guidance = guidance_of(mirror_augmentation=False)
    assert not any(guidance.sample(1, generator, 0.0).mirrored for _ in range(20))


def test_noise_levels_fall_with_the_progress():
    guidance = guidance_of(t_min=0.6, t_max=0.9, t_anneal=0.5)
    for progress, low, high in ((0.0, 0.6, 0.9), (0.5, 0.35, 0.65), (1.0, 0.1, 0.4)):
        t = sample(guidance, 1000, progress=progress).t / 1000
        assert float(t.min()) == pytest.approx(low, abs=0.01)
        assert float(t.max()) == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
    ("t_min", "t_max", "expected"),
    [(0.5, 0.502, {500, 501, 502}), (0.0, 1e-4, {0}), (0.999, 1.0, {999}), (0.25, 0.2501, {250})],
)
def test_both_ends_of_the_noise_range_are_drawn(t_min, t_max, expected):
    guidance = guidance_of(t_min=t_min, t_max=t_max, t_anneal=0.0)
    assert set(sample(guidance, 200).t.tolist()) == expected


def test_samples_depend_on_the_seed_only():
    guidance = guidance_of(sample_latents=True)
    first, again, other = sample(guidance), sample(guidance), sample(guidance, seed=1)
    for name in ("t", "noise", "vae_noise"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))
    assert torch.equal(first.lighting.direction, again.lighting.direction)
    assert first.noise.shape == first.vae_noise.shape == (6, 3, 8, 8)
    assert not torch.equal(first.noise, first.vae_noise)


@pytest.mark.parametrize("sample_latents", [False, True])
def test_the_autoencoder_is_sampled_only_if_asked_for(sample_latents):
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior, sample_latents=sample_latents, relit_batch_size=4)
    samples = sample(guidance)
    guidance.gradient(fast_normals(), VIEW, samples)
    if sample_latents:
        assert torch.equal(torch.cat(prior.vae_noise), samples.vae_noise)
    else:
        assert samples.vae_noise is None
        assert prior.vae_noise == [None, None]


def test_lights_have_the_style_of_the_settings():
    assert sample(guidance_of(light_style="soft")).lighting.ambient.all()
    assert not sample(guidance_of(light_style="paper")).lighting.ambient.any()


@pytest.mark.parametrize(
    ("guidance_scale", "expected"), [(0.0, [[True] * 6]), (7.5, [[True] * 6 + [False] * 6])]
)
def test_the_unconditional_prediction_is_in_the_same_call_and_only_for_guidance(guidance_scale, expected):
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior, guidance_scale=guidance_scale)
    guidance.gradient(fast_normals(), VIEW, sample(guidance))
    assert [call.conditional for call in prior.calls] == expected


def test_the_prompt_reaches_the_prior():
    prior = FakePrior(SCENE.normals)
    guidance = guidance_of(prior)
    guidance.gradient(fast_normals(), VIEW, sample(guidance))
    assert prior.calls[0].condition.prompt == "a bump"


class Spoiled(torch.autograd.Function):
    """Passes values forward; sets the gradient of some to infinity, as half precision may do."""

    @staticmethod
    def forward(context, values, columns):
        context.columns = columns
        return values.clone()

    @staticmethod
    def backward(context, gradient):
        gradient = gradient.clone()
        gradient[..., context.columns] = torch.inf
        return gradient, None


class SpoilingPrior(FakePrior):
    """A prior whose autoencoder overflows in some columns of the image."""

    columns = slice(None)

    def encode(self, images, noise):
        return super().encode(Spoiled.apply(images, self.columns), noise)


def test_a_gradient_that_overflows_everywhere_makes_the_loss_nan():
    guidance = guidance_of(SpoilingPrior(SCENE.normals))
    gradient, loss = guidance.gradient(fast_normals(), VIEW, sample(guidance))
    assert math.isnan(loss)
    assert not gradient.any()


def test_a_gradient_that_overflows_in_some_pixels_is_0_there():
    prior = SpoilingPrior(SCENE.normals)
    prior.columns = slice(0, 4)
    guidance = guidance_of(prior)
    samples = sample(guidance, mirrored=False)
    gradient, loss = guidance.gradient(fast_normals(), VIEW, samples)
    assert math.isfinite(loss)
    assert not gradient[..., :4].any()
    plain, _ = guidance_of().gradient(fast_normals(), VIEW, samples)
    torch.testing.assert_close(gradient[..., 4:], plain[..., 4:])


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_only_a_prior_that_predicts_nothing_but_nan_makes_the_loss_nan(share):
    class BrokenPrior(FakePrior):
        def predict_noise(self, *arguments):
            predicted = super().predict_noise(*arguments)
            predicted[..., : int(share * predicted.shape[-1])] = torch.nan
            return predicted

    guidance = guidance_of(BrokenPrior(SCENE.normals))
    _, loss = guidance.gradient(fast_normals(), VIEW, sample(guidance))
    assert math.isnan(loss) == (share == 1.0)


def test_an_interruption_is_noticed_before_each_batch():
    prior, answers = FakePrior(SCENE.normals), iter([False, True])
    settings = dataclasses.replace(SETTINGS, relit_batch_size=2)
    guidance = SdsGuidance(prior, SCENE.pixels, "", settings, lambda: next(answers))
    with pytest.raises(Interrupted):
        guidance.gradient(fast_normals(), VIEW, sample(guidance))
    assert prior.encoded == [2]
