"""Priors: the authors' own values, and small random networks in the genuine folder formats."""

import json
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from redepth_ros.core.errors import ModelError
from redepth_ros.core.relighting import draw_lighting
from redepth_ros.core.refine.sds import add_noise, guide, sds_gradient, sds_loss
from redepth_ros.models.diffusion import LIGHT_FEATURES, DiffusionPrior, light_features

DATA = Path(__file__).parent / "data"
LIGHTS = draw_lighting("soft", 2, torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    """A copy of a StableDiffusionPipeline's folder with small random weights."""
    return Path(shutil.copytree(DATA / "tiny-sd", tmp_path / "sd"))


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_unet(folder: Path, **changes) -> None:
    config = {**UNet2DConditionModel.load_config(folder / "unet"), **changes}
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")


def load(folder) -> DiffusionPrior:
    return DiffusionPrior.load(str(folder), device="cpu", precision="float32")


def test_the_authors_score_distillation_is_reproduced():
    """Letterbox, encoder, noise, guidance and gradient, for given draws, to float32 rounding."""
    stored = {name: torch.from_numpy(np.asarray(value)) for name, value in np.load(DATA / "sds_0.npz").items()
              if name != "prompt"}  # fmt: skip
    prompt = str(np.load(DATA / "sds_0.npz")["prompt"])
    prior = load(DATA / "tiny-sd")
    picture = stored["rgb"][None].clone().requires_grad_()
    shape = prior.latent_shape(*picture.shape[-2:])
    sampling, noise = stored["vae_noise"].reshape(1, *shape), stored["noise"].reshape(1, *shape)
    t = stored["t"].reshape(1)

    latents = prior.encode(picture, sampling)
    torch.testing.assert_close(latents, stored["latents"].reshape(1, *shape), rtol=0, atol=1e-5)
    condition = prior.condition(picture.detach(), prompt)
    with torch.no_grad():
        noised = add_noise(latents, noise, prior.alphas[t, None, None, None])
        with_text = prior.predict_noise(noised, t, condition, LIGHTS, True)
        without = prior.predict_noise(noised, t, condition, LIGHTS, False)
        gradient = sds_gradient(guide(with_text, without, stored["guidance_scale"].item()), noise)
    expected = stored["grad_latents"].reshape(1, *shape)
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-3)
    loss = sds_loss(latents, gradient)
    torch.testing.assert_close(loss.item(), stored["loss"].item(), rtol=1e-5, atol=0)
    loss.backward()
    torch.testing.assert_close(picture.grad[0], stored["grad_rgb"], rtol=1e-3, atol=1e-7)


def test_a_prompt_changes_what_is_predicted_and_none_is_no_prompt(folder):
    prior = load(folder)
    picture, t = torch.rand(1, 3, 40, 60), torch.tensor([300, 700])
    noised = torch.randn(2, *prior.latent_shape(40, 60))
    said, silent = prior.condition(picture, "a red chair"), prior.condition(picture, "")
    with torch.no_grad():
        found = prior.predict_noise(noised, t, said, LIGHTS, True)
        unconditional = prior.predict_noise(noised, t, said, LIGHTS, False)
        assert not torch.allclose(found, unconditional, atol=1e-6)
        expected = prior.predict_noise(noised, t, silent, LIGHTS, True)
    torch.testing.assert_close(unconditional, expected)


@pytest.mark.parametrize("told", [True, False])
def test_a_prompt_that_is_too_long_is_cut_and_said(told, folder):
    """Also where the tokenizer does not say how much it takes, and the text encoder has to."""
    if not told:
        path = folder / "tokenizer" / "tokenizer_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({key: one for key, one in config.items() if key != "model_max_length"}))
    prior = load(folder)
    condition = prior.condition(torch.rand(1, 3, 40, 60), "a chair " * 300)
    assert torch.isfinite(condition.text).all()
    count = len(CLIPTokenizer.from_pretrained(folder / "tokenizer")("a chair " * 300).input_ids)
    assert prior.remark("a chair " * 300) == f"the prompt has {count} tokens, of which the prior reads 77"
    assert prior.remark("a chair") == prior.remark("") == ""
    assert "takes no prompt" in load("tiny").remark("a chair")


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_whatever_is_predicted_becomes_the_noise(kind, folder):
    """The same network, read in the three ways, agrees with diffusers' own conversion."""
    change_json(folder / "scheduler" / "scheduler_config.json", prediction_type=kind)
    prior = load(folder)
    t, noised = torch.tensor([450]), torch.randn(1, *prior.latent_shape(40, 60))
    condition = prior.condition(torch.rand(1, 3, 40, 60), "")
    with torch.no_grad():
        found = prior.predict_noise(noised, t, condition, LIGHTS, True)
        raw = prior.unet(noised, t, condition.text).sample
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False)
    scheduler.set_timesteps(1000)
    clean = scheduler.step(raw, 450, noised).pred_original_sample
    alpha = prior.alphas[450]
    torch.testing.assert_close(found, (noised - alpha.sqrt() * clean) / (1 - alpha).sqrt(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("pipeline", ["StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"])
def test_a_unet_of_doubled_channels_sees_the_picture(pipeline, folder):
    """InstructPix2Pix's layout takes the picture's latents as they are, IC-Light's scaled."""
    replace_unet(folder, in_channels=8)
    change_json(folder / "model_index.json", _class_name=pipeline)
    prior = load(folder)
    picture = torch.rand(1, 3, 40, 60)
    condition = prior.condition(picture, "")
    factor = 1.0 if "Pix2Pix" in pipeline else 1.0 / prior.coder.config.scaling_factor
    with torch.no_grad():
        torch.testing.assert_close(
            condition.latents * factor,
            prior.encode(picture, None) / prior.coder.config.scaling_factor,
        )
        noised, t = torch.randn(2, *prior.latent_shape(40, 60)), torch.tensor([300, 700])
        seen = prior.predict_noise(noised, t, condition, LIGHTS, True)
        other = prior.predict_noise(noised, t, prior.condition(1.0 - picture, ""), LIGHTS, True)
    assert not torch.allclose(seen, other, atol=1e-6)


@pytest.mark.parametrize("pipeline", ["StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"])
def test_the_picture_is_seen_alike_through_a_small_autoencoder(pipeline, folder, tmp_path):
    """Latents of TAESD come scaled, those of the pipeline's own autoencoder do not."""
    replace_unet(folder, in_channels=8)
    change_json(folder / "model_index.json", _class_name=pipeline)
    save_taesd(tmp_path / "taesd")
    prior = DiffusionPrior.load(str(folder), coder=str(tmp_path / "taesd"), device="cpu")
    picture = torch.rand(1, 3, 40, 60)
    factor = AutoencoderKL.load_config(folder / "vae")["scaling_factor"] if "Pix2Pix" in pipeline else 1.0
    with torch.no_grad():
        torch.testing.assert_close(prior.condition(picture, "").latents * factor, prior.encode(picture, None))


def test_guidance_by_a_prompt_leaves_the_picture_in_sight(folder):
    replace_unet(folder, in_channels=8)
    prior = load(folder)
    picture, t = torch.rand(1, 3, 40, 60), torch.tensor([300, 700])
    noised = torch.randn(2, *prior.latent_shape(40, 60))
    with torch.no_grad():
        without = prior.predict_noise(noised, t, prior.condition(picture, "a chair"), LIGHTS, False)
        silent = prior.predict_noise(noised, t, prior.condition(picture, ""), LIGHTS, True)
    torch.testing.assert_close(without, silent)


@pytest.mark.parametrize("size", [(56, 56), (120, 160), (50, 70)])
def test_the_embedded_prior_takes_any_size_and_is_told_the_light(size):
    prior = load("tiny")
    picture = torch.rand(1, 3, *size)
    noised, t = torch.randn(2, *prior.latent_shape(*size)), torch.tensor([600, 900])
    condition = prior.condition(picture, "")
    other = draw_lighting("soft", 2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert prior.encode(picture, None).shape[1:] == noised.shape[1:]
        found = [prior.predict_noise(noised, t, condition, lights, True) for lights in (LIGHTS, other)]
    assert not torch.allclose(*found, atol=1e-4)


def test_light_features_point_the_way_of_the_light():
    """Right and down are positive, whatever the length of the direction's z."""
    features = light_features(LIGHTS)
    assert features.shape == (2, LIGHT_FEATURES)
    direction = LIGHTS.direction.flatten(1)
    assert torch.equal(features[:, :2].sign(), direction[:, :2].sign())
    assert features.abs().max() <= 1.01


def test_the_embedded_prior_sees_large_pictures_at_the_size_of_its_training():
    """Their shorter side at 56 pixels, smoothed, so that a stripe pattern becomes its mean."""
    prior = load("tiny")
    assert prior.latent_shape(120, 160) == (12, 14, 20)  # 56 x 75, whole cells
    assert prior.latent_shape(40, 60) == (12, 10, 16)
    stripes = torch.zeros(1, 3, 224, 224)
    stripes[..., ::2] = 1.0
    grey = torch.full((1, 3, 56, 56), 0.5)
    found, expected = (prior.encode(one, None)[..., 1:-1] for one in (stripes, grey))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def save_taesd(folder):
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
    ).save_pretrained(folder)  # fmt: skip


def test_another_autoencoder_for_the_same_latents(folder, tmp_path):
    save_taesd(tmp_path / "taesd")
    prior = DiffusionPrior.load(str(folder), coder=str(tmp_path / "taesd"), device="cpu")
    assert type(prior.coder).__name__ == "AutoencoderTiny"
    shape = prior.latent_shape(40, 60)
    assert prior.encode(torch.rand(1, 3, 40, 60), torch.randn(1, *shape)).shape[1:] == shape


def test_half_precision_gives_finite_float_noise(folder):
    prior = DiffusionPrior.load(str(folder), device="cpu", precision="bfloat16")
    noised = torch.randn(1, *prior.latent_shape(40, 60))
    condition = prior.condition(torch.rand(1, 3, 40, 60), "a chair")
    found = prior.predict_noise(noised, torch.tensor([500]), condition, LIGHTS, True)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def without(part):
    return lambda folder: shutil.rmtree(folder / part)


def with_three_channels(folder):
    replace_unet(folder, in_channels=7)


def with_other_latents(folder):
    config = {**AutoencoderKL.load_config(folder / "vae"), "latent_channels": 8}
    AutoencoderKL.from_config(config).save_pretrained(folder / "vae")


def with_other_text(folder):
    replace_unet(folder, cross_attention_dim=24)


def with_flow(folder):
    change_json(folder / "scheduler" / "scheduler_config.json", prediction_type="flow_prediction")


def with_cut_weights(folder):
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])


def lacking_weights(part, name="diffusion_pytorch_model.safetensors"):
    def damage(folder):
        path = folder / part / name
        weights = load_file(path)
        save_file(dict(list(weights.items())[5:]), path, metadata={"format": "pt"})

    return damage


def with_oblong_samples(folder):
    change_json(folder / "unet" / "config.json", sample_size=[64, 96])


def with_other_coder(folder):
    change_json(folder / "vae" / "config.json", _class_name="VQModel")


def without_text(folder):
    change_json(folder / "model_index.json", text_encoder=[None, None])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("scheduler"), "has no scheduler/"),
        (without("unet"), "has no unet/"),
        (without("vae"), "has no vae/"),
        (with_three_channels, "takes 7 channels; 4 .* or 8"),
        (with_other_latents, "latents have 8 channels, the UNet's 4"),
        (with_other_text, "takes 24; take the text encoder"),
        (with_flow, "predicts 'flow_prediction'; it must be one of: epsilon, v_prediction, sample"),
        (with_cut_weights, "can't be loaded"),
        (lacking_weights("unet"), r"unet lacks 5 of the network's weights"),
        (lacking_weights("vae"), r"vae lacks 5 of the network's weights"),
        (lacking_weights("text_encoder", "model.safetensors"), r"text_encoder lacks 5 of the network's"),
        (with_oblong_samples, r"sample_size is \[64, 96\]; it must be one whole number"),
        (with_other_coder, "VQModel"),
        (without_text, "neither a text encoder nor a UNet that is told the light"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(damage, words, folder):
    damage(folder)
    with pytest.raises(ModelError, match=words):
        load(folder)


def test_a_missing_folder_and_a_hub_id_without_network(monkeypatch, tmp_path):
    with pytest.raises(ModelError, match=r"prior '/nowhere' is not a folder; .* unet/, vae/ and scheduler/"):
        load("/nowhere")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="prior 'stable-diffusion-v1-5/none' is not in the cache"):
        load("stable-diffusion-v1-5/none")


def test_a_download_that_broke_off_is_taken_up_again(monkeypatch, tmp_path):
    snapshot = tmp_path / "models--someone--sd" / "snapshots" / "0123abc"
    shutil.copytree(DATA / "tiny-sd", snapshot)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    refs = tmp_path / "models--someone--sd" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123abc")
    search, asked = huggingface_hub.snapshot_download, []

    def download(name, *, allow_patterns, local_files_only=False):
        if local_files_only:
            return search(name, allow_patterns=allow_patterns, local_files_only=True, cache_dir=tmp_path)
        asked.append(name)  # stands in for the hub, which tests do not reach
        if not online:
            raise ConnectionError("no network")
        return shutil.copytree(DATA / "tiny-sd", snapshot, dirs_exist_ok=True)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    online = False
    with pytest.raises(ModelError, match="prior 'someone/sd' can't be loaded"):
        load("someone/sd")
    online = True
    assert load("someone/sd").name == "someone/sd"
    load("someone/sd")
    assert asked == ["someone/sd"] * 2  # whole now: the hub is not asked again
