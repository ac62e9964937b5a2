"""Priors: the authors' own values, and small random networks in the layouts of diffusers."""

import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, CLIPTokenizer

from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.sds import add_noise, guide, sds_gradient, sds_loss
from redepth_ros.core.relighting import Lighting, sample_lighting
from redepth_ros.models.diffusion import LIGHT_FEATURES, DiffusionPrior, light_features

DATA = Path(__file__).parent / "data"
LIGHTS = sample_lighting("soft", 2, torch.Generator().manual_seed(0))


@pytest.fixture
def folder(tmp_path):
    """A copy of the folder of a StableDiffusionPipeline with small random weights."""
    return Path(shutil.copytree(DATA / "tiny-sd", tmp_path / "sd"))


def change_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def replace_unet(folder: Path, **changes) -> None:
    config = {**UNet2DConditionModel.load_config(folder / "unet"), **changes}
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")


def load(folder) -> DiffusionPrior:
    return DiffusionPrior.load(str(folder), device="cpu", precision="float32")


def test_the_authors_score_distillation_is_reproduced(tiny_sd):
    """Letterbox, encoder, noise, guidance and gradient, for given draws, to float32 rounding."""
    with np.load(DATA / "sds_0.npz") as file:
        prompt = str(file["prompt"])
        stored = {name: torch.from_numpy(np.asarray(file[name])) for name in file if name != "prompt"}
    prior = tiny_sd
    image = stored["rgb"][None].clone().requires_grad_()
    shape = prior.latent_shape(*image.shape[-2:])
    sampling, noise = stored["vae_noise"].reshape(1, *shape), stored["noise"].reshape(1, *shape)
    t = stored["t"].reshape(1)

    latents = prior.encode(image, sampling)
    torch.testing.assert_close(latents, stored["latents"].reshape(1, *shape), rtol=0, atol=1e-5)
    condition = prior.condition(image.detach(), prompt)
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
    torch.testing.assert_close(image.grad[0], stored["grad_rgb"], rtol=1e-3, atol=1e-7)


def test_a_prompt_changes_the_prediction_and_the_unconditional_one_has_none(tiny_sd):
    prior = tiny_sd
    image, t = torch.rand(1, 3, 40, 60), torch.tensor([300, 700])
    noised = torch.randn(2, *prior.latent_shape(40, 60))
    prompted, silent = prior.condition(image, "a red chair"), prior.condition(image, "")
    with torch.no_grad():
        found = prior.predict_noise(noised, t, prompted, LIGHTS, True)
        unconditional = prior.predict_noise(noised, t, prompted, LIGHTS, False)
        assert not torch.allclose(found, unconditional, atol=1e-6)
        expected = prior.predict_noise(noised, t, silent, LIGHTS, True)
    torch.testing.assert_close(unconditional, expected)


@pytest.mark.parametrize("in_channels", [4, 8])
def test_conditional_and_unconditional_predictions_of_one_call_are_those_of_two(in_channels, folder):
    if in_channels == 8:
        replace_unet(folder, in_channels=8)
    assert_one_call_equals_two(load(folder))


def test_the_embedded_prior_predicts_both_kinds_in_one_call(tiny_prior):
    assert_one_call_equals_two(tiny_prior)


def assert_one_call_equals_two(prior):
    image, t = torch.rand(1, 3, 56, 56), torch.tensor([300, 700])
    noised, given = torch.randn(2, *prior.latent_shape(56, 56)), torch.tensor([True, False])
    condition = prior.condition(image, "a red chair")
    with torch.no_grad():
        mixed = prior.predict_noise(noised, t, condition, LIGHTS, given)
        with_condition, without = (
            prior.predict_noise(noised, t, condition, LIGHTS, c) for c in (True, False)
        )
    torch.testing.assert_close(mixed, torch.stack((with_condition[0], without[1])), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(mixed[1], with_condition[1], atol=1e-6)


@pytest.mark.parametrize("declared", [True, False])
def test_a_prompt_that_is_too_long_is_cut_off_with_a_warning(declared, folder):
    """The text encoder limits the prompt where the tokenizer does not declare a limit."""
    if not declared:
        path = folder / "tokenizer" / "tokenizer_config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({key: one for key, one in config.items() if key != "model_max_length"}))
    prior = load(folder)
    condition = prior.condition(torch.rand(1, 3, 40, 60), "a chair " * 300)
    assert torch.isfinite(condition.text).all()
    count = len(CLIPTokenizer.from_pretrained(folder / "tokenizer")("a chair " * 300).input_ids)
    assert (
        prior.prompt_warning("a chair " * 300)
        == f"the prompt has {count} tokens; the prior reads the first 77"
    )
    assert prior.prompt_warning("a chair") == prior.prompt_warning("") == ""


def test_a_light_conditioned_prior_warns_that_it_ignores_the_prompt(tiny_prior):
    assert tiny_prior.prompt_warning("a chair").startswith(
        "the prior ignores the prompt: it is conditioned on"
    )
    assert tiny_prior.prompt_warning("") == ""


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_is_converted_to_noise_as_diffusers_does(kind, folder):
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
def test_a_unet_of_doubled_channels_is_conditioned_on_the_image(pipeline, folder):
    """InstructPix2Pix takes the latents of the image unscaled, IC-Light scaled."""
    replace_unet(folder, in_channels=8)
    change_json(folder / "model_index.json", _class_name=pipeline)
    prior = load(folder)
    image = torch.rand(1, 3, 40, 60)
    condition = prior.condition(image, "")
    factor = 1.0 if "Pix2Pix" in pipeline else 1.0 / prior.vae.config.scaling_factor
    with torch.no_grad():
        torch.testing.assert_close(
            condition.latents * factor,
            prior.encode(image, None) / prior.vae.config.scaling_factor,
        )
        noised, t = torch.randn(2, *prior.latent_shape(40, 60)), torch.tensor([300, 700])
        seen = prior.predict_noise(noised, t, condition, LIGHTS, True)
        other = prior.predict_noise(noised, t, prior.condition(1.0 - image, ""), LIGHTS, True)
    assert not torch.allclose(seen, other, atol=1e-6)


@pytest.mark.parametrize("pipeline", ["StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"])
def test_another_autoencoder_does_not_change_the_scale_of_the_condition(pipeline, folder, tmp_path):
    """TAESD returns scaled latents, the autoencoder of the pipeline unscaled ones."""
    replace_unet(folder, in_channels=8)
    change_json(folder / "model_index.json", _class_name=pipeline)
    save_taesd(tmp_path / "taesd")
    prior = DiffusionPrior.load(str(folder), vae=str(tmp_path / "taesd"), device="cpu")
    image = torch.rand(1, 3, 40, 60)
    factor = AutoencoderKL.load_config(folder / "vae")["scaling_factor"] if "Pix2Pix" in pipeline else 1.0
    with torch.no_grad():
        torch.testing.assert_close(prior.condition(image, "").latents * factor, prior.encode(image, None))


def test_guidance_by_a_prompt_keeps_the_condition_on_the_image(folder):
    replace_unet(folder, in_channels=8)
    prior = load(folder)
    image, t = torch.rand(1, 3, 40, 60), torch.tensor([300, 700])
    noised = torch.randn(2, *prior.latent_shape(40, 60))
    with torch.no_grad():
        without = prior.predict_noise(noised, t, prior.condition(image, "a chair"), LIGHTS, False)
        silent = prior.predict_noise(noised, t, prior.condition(image, ""), LIGHTS, True)
    torch.testing.assert_close(without, silent)


@pytest.mark.parametrize("size", [(56, 56), (120, 160), (50, 70)])
def test_the_embedded_prior_takes_any_size_and_is_conditioned_on_the_light(size, tiny_prior):
    prior = tiny_prior
    assert prior.light_conditioned
    image = torch.rand(1, 3, *size)
    noised, t = torch.randn(2, *prior.latent_shape(*size)), torch.tensor([600, 900])
    condition = prior.condition(image, "")
    other = sample_lighting("soft", 2, torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert prior.encode(image, None).shape[1:] == noised.shape[1:]
        found = [prior.predict_noise(noised, t, condition, lights, True) for lights in (LIGHTS, other)]
    assert not torch.allclose(*found, atol=1e-4)


def test_light_features_have_the_direction_of_the_light():
    features = light_features(LIGHTS)
    assert features.shape == (2, LIGHT_FEATURES)
    direction = LIGHTS.direction.flatten(1)
    assert torch.equal(features[:, :2].sign(), direction[:, :2].sign())
    assert features.abs().max() <= 1.01


def test_the_embedded_prior_resizes_large_images_to_the_size_of_its_training(tiny_prior):
    """The shorter side becomes 56 pixels with antialiasing, so that stripes become their mean."""
    prior = tiny_prior
    assert prior.latent_shape(120, 160) == (12, 14, 20)  # 56 x 75, whole cells
    assert prior.latent_shape(40, 60) == (12, 10, 16)
    stripes = torch.zeros(1, 3, 224, 224)
    stripes[..., 1::4] = 1.0
    grey = torch.full((1, 3, 56, 56), 0.25)
    found, expected = (prior.encode(one, None)[..., 1:-1] for one in (stripes, grey))
    torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


def save_taesd(folder):
    AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    ).save_pretrained(folder)


def test_another_autoencoder_for_the_same_latents_is_loaded(folder, tmp_path):
    save_taesd(tmp_path / "taesd")
    prior = DiffusionPrior.load(str(folder), vae=str(tmp_path / "taesd"), device="cpu")
    assert type(prior.vae).__name__ == "AutoencoderTiny"
    assert prior.name == f"{folder} with {tmp_path / 'taesd'}"
    shape = prior.latent_shape(40, 60)
    assert prior.encode(torch.rand(1, 3, 40, 60), torch.randn(1, *shape)).shape[1:] == shape


def test_half_precision_predicts_finite_float32_noise(folder):
    prior = DiffusionPrior.load(str(folder), device="cpu", precision="bfloat16")
    noised = torch.randn(1, *prior.latent_shape(40, 60))
    condition = prior.condition(torch.rand(1, 3, 40, 60), "a chair")
    found = prior.predict_noise(noised, torch.tensor([500]), condition, LIGHTS, True)
    assert found.dtype == torch.float32
    assert torch.isfinite(found).all()


def test_weights_in_half_precision_are_never_in_single_precision(tmp_path, monkeypatch):
    """Of a large prior, twice the memory would not fit a small machine."""
    folder = save_parts_again(DATA / "tiny-sd", tmp_path / "sd", variant="fp16")
    made = []
    original = torch.nn.Module.register_parameter

    def register(module, name, parameter):
        made.append(parameter.dtype if parameter is not None else None)
        original(module, name, parameter)

    monkeypatch.setattr(torch.nn.Module, "register_parameter", register)
    DiffusionPrior.load(str(folder), device="cpu", precision="bfloat16")
    assert torch.bfloat16 in made
    assert torch.float32 not in made


def without(part):
    def damage(folder):
        path = folder / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return damage


def with_value(path, **changes):
    return lambda folder: change_json(folder / path, **changes)


def with_scheduler(kind):
    return lambda folder: kind().save_pretrained(folder / "scheduler")


def with_pickled_weights(folder):
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()


def with_added_conditions(folder):
    """The UNet of SDXL in a folder that calls itself StableDiffusionPipeline."""
    replace_unet(
        folder,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )


def with_inpainting_unet(folder):
    replace_unet(folder, in_channels=9)


def with_seven_channels(folder):
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


def with_other_vae(folder):
    change_json(folder / "vae" / "config.json", _class_name="VQModel")


def without_text(folder):
    change_json(folder / "model_index.json", text_encoder=[None, None])


SCHEDULER = "scheduler/scheduler_config.json"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (without("scheduler"), "lacks scheduler/scheduler_config.json in .*; its folder must"),
        (
            without("unet"),
            "lacks unet/config.json, unet/diffusion_pytorch_model.safetensors in .*; its folder must",
        ),
        (
            without("vae"),
            "lacks vae/config.json, vae/diffusion_pytorch_model.safetensors in .*; its folder must",
        ),
        (without("text_encoder"), "lacks text_encoder/config.json, text_encoder/model.safetensors in"),
        (without("tokenizer"), "lacks tokenizer/tokenizer.json in"),
        (without("model_index.json"), "lacks model_index.json in"),
        (with_seven_channels, "takes 7 channels; it must take 4 .* or 8"),
        (with_other_latents, "latents have 8 channels, the UNet's 4"),
        (with_other_text, "features per token, the UNet 24; use the text encoder"),
        (with_flow, "predicts 'flow_prediction'; it must be one of: epsilon, v_prediction, sample"),
        (with_cut_weights, "can't be loaded"),
        (lacking_weights("unet"), "unet lacks 5 of its weights"),
        (lacking_weights("vae"), "vae lacks 5 of its weights"),
        (lacking_weights("text_encoder", "model.safetensors"), "text_encoder lacks 5 of its weights"),
        (with_oblong_samples, r"sample_size is \[64, 96\]; it must be one integer"),
        (with_other_vae, "is a 'VQModel'; the autoencoder must be one of: AutoencoderKL"),
        (
            with_pickled_weights,
            r"in another format only \(unet/diffusion_pytorch_model.bin\): load them with",
        ),
        (with_added_conditions, "UNet has addition_embed_type 'text_time', as in SDXL"),
        (with_inpainting_unet, "takes 9 channels; it must take 4 .* or 8 .*, unlike an inpainting model"),
        (
            with_scheduler(FlowMatchEulerDiscreteScheduler),
            "has the scheduler 'FlowMatchEulerDiscreteScheduler'",
        ),
        (with_scheduler(EDMEulerScheduler), "'EDMEulerScheduler' without a schedule of betas: .* EDM; use a"),
        (with_value(SCHEDULER, use_flow_sigmas=True), "noise levels are those of flow matching"),
        (with_value(SCHEDULER, timestep_type="continuous"), "noise levels are those of flow matching or EDM"),
        (with_value(SCHEDULER, beta_start="small"), "scheduler's beta_start is 'small'; it must be a number"),
        (with_value(SCHEDULER, prediction_type=["epsilon"]), r"predicts \['epsilon'\]; it must be one of"),
        (
            with_value("vae/config.json", scaling_factor="x"),
            "scaling_factor is 'x'; it must be a number above",
        ),
        (with_value("vae/config.json", scaling_factor=0), "scaling_factor is 0; it must be a number above 0"),
        (with_value("unet/config.json", in_channels="4"), "can't be loaded: "),
        (with_value("model_index.json", text_encoder="CLIP"), "has neither a text encoder nor"),
        (with_value("model_index.json", _class_name=None), "prior .* is a None; it must be one of"),
        (without_text, "has neither a text encoder nor a light-conditioned UNet"),
    ],
)
def test_load_rejects_folders_whose_parts_do_not_fit(damage, words, folder):
    damage(folder)
    with pytest.raises(ModelError, match=words):
        load(folder)


@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("StableDiffusionXLPipeline", "its UNet needs two text encoders"),
        ("StableDiffusion3Pipeline", "its transformer is trained by flow matching"),
        ("FluxPipeline", "its transformer is trained by flow matching"),
        ("StableDiffusionInpaintPipeline", "its UNet also takes a mask"),
        ("StableDiffusionXLInpaintPipeline", "its UNet also takes a mask"),
        ("LatentConsistencyModelPipeline", "its UNet is distilled"),
    ],
)
def test_a_pipeline_of_another_family_is_refused_by_its_name(pipeline, reason, tmp_path):
    """Before anything else: some of them have no unet/."""
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    words = rf"is a '{pipeline}' \({reason}.*\); it must be one of: .* for example stable-diffusion-v1-5/"
    with pytest.raises(ModelError, match=words):
        load(tmp_path)


def test_a_depth_estimating_pipeline_is_no_prior(folder):
    change_json(folder / "model_index.json", _class_name="MarigoldDepthPipeline")
    with pytest.raises(ModelError, match="is a 'MarigoldDepthPipeline'; it must be one of"):
        load(folder)


def save_parts_again(source, folder, **options):
    """Save the networks of a pipeline's folder in another shape, as save_pretrained of the libraries does."""
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    for kind, part in (
        (UNet2DConditionModel, "unet"),
        (AutoencoderKL, "vae"),
        (CLIPTextModel, "text_encoder"),
    ):
        kind.from_pretrained(source / part).save_pretrained(folder / part, **options)
    return folder


@pytest.mark.parametrize(
    "options",
    [{"variant": "fp16"}, {"max_shard_size": "100KB"}, {"variant": "fp16", "max_shard_size": "100KB"}],
    ids=["variant", "shards", "shards of a variant"],
)
def test_weights_in_every_shape_of_the_libraries_are_loaded(options, tmp_path, tiny_sd):
    folder = save_parts_again(DATA / "tiny-sd", tmp_path / "sd", **options)
    files = {path.name for path in (folder / "unet").iterdir()}
    assert "diffusion_pytorch_model.safetensors" not in files
    assert (len(files) > 3) == ("max_shard_size" in options)
    prior = load(folder)
    for name in ("unet", "vae"):
        found, expected = (getattr(one, name).state_dict() for one in (prior, tiny_sd))
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_loading_draws_no_progress_bars(tmp_path, capfd):
    """They would fill the log of a launch file."""
    for library in (transformers, diffusers):
        library.utils.logging.enable_progress_bar()
    folder = save_parts_again(DATA / "tiny-sd", tmp_path / "sd", max_shard_size="100KB")
    capfd.readouterr()
    load(folder)
    assert capfd.readouterr() == ("", "")


def test_an_incomplete_set_of_shards_is_named(tmp_path):
    folder = save_parts_again(DATA / "tiny-sd", tmp_path / "sd", max_shard_size="100KB")
    next((folder / "unet").glob("*-00002-of-*.safetensors")).unlink()
    with pytest.raises(ModelError, match=r"lacks unet/diffusion_pytorch_model\.safetensors in"):
        load(folder)


def test_plain_weights_are_preferred_to_a_variant(folder, tiny_sd):
    other = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet"))
    other.save_pretrained(folder / "unet", variant="fp16")
    weights = load(folder).unet.state_dict()
    assert all(torch.equal(weights[key], value) for key, value in tiny_sd.unet.state_dict().items())


@pytest.mark.parametrize("place", ["file", "folder"])
def test_a_checkpoint_in_one_file_is_refused_with_the_conversion(place, tmp_path):
    path = tmp_path / "v1-5.safetensors"
    shutil.copy(DATA / "tiny-sd" / "vae" / "diffusion_pytorch_model.safetensors", path)
    with pytest.raises(ModelError, match=r"a checkpoint in one file.* P\.from_single_file\('") as caught:
        load(path if place == "file" else tmp_path)
    code = str(caught.value).partition('-c "')[2].partition('"')[0]
    compile(code, "conversion", "exec")
    assert callable(StableDiffusionPipeline.from_single_file)
    with pytest.raises(ModelError, match=r"vae .* is a checkpoint in one file; convert it: .*AutoencoderKL"):
        DiffusionPrior.load(str(DATA / "tiny-sd"), vae=str(path), device="cpu")


def with_other_light_features(folder):
    replace_unet(
        folder,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=5,
        encoder_hid_dim=5,
        encoder_hid_dim_type="text_proj",
    )


def test_load_rejects_another_number_of_light_features(folder):
    with_other_light_features(folder)
    with pytest.raises(ModelError, match="the UNet takes 5 light features; it must take 6"):
        load(folder)


def test_a_missing_prior_is_named_with_what_a_folder_contains(offline):
    with pytest.raises(ModelError, match=r"prior '/nowhere' is not a folder; .* unet/, vae/ and scheduler/"):
        load("/nowhere")
    with pytest.raises(ModelError, match="prior 'stable-diffusion-v1-5/none' is not in the cache"):
        load("stable-diffusion-v1-5/none")


def test_latents_are_sampled_with_the_given_noise_if_the_autoencoder_has_a_distribution(tiny_sd):
    image = torch.rand(1, 3, 40, 60)
    shape = (1, *tiny_sd.latent_shape(40, 60))
    noise = torch.randn(shape)
    mean, above, below = (tiny_sd.encode(image, one) for one in (None, noise, -noise))
    torch.testing.assert_close(0.5 * (above + below), mean, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(above, mean, atol=1e-6)


def test_light_features_are_right_down_weights_and_shininess():
    direction = torch.tensor([[0.6, -0.3, -0.5]])[..., None, None]
    diffuse, specular, shininess, ambient = (
        torch.full((1, 1, 1, 1), value) for value in (0.9, 0.2, 16.0, 0.1)
    )
    found = light_features(Lighting(direction, diffuse, specular, shininess, ambient))
    torch.testing.assert_close(found, torch.tensor([[1.2, -0.6, 0.9, 0.1, 0.2, 4.0 / 6.0]]))


def test_the_unconditional_prediction_of_the_embedded_prior_ignores_image_and_light(tiny_prior):
    noised, t = torch.randn(2, *tiny_prior.latent_shape(56, 56)), torch.tensor([600, 900])
    found = []
    for seed in (1, 2):
        lights = sample_lighting("soft", 2, torch.Generator().manual_seed(seed))
        with torch.no_grad():
            condition = tiny_prior.condition(torch.rand(1, 3, 56, 56), "")
            found.append(tiny_prior.predict_noise(noised, t, condition, lights, False))
    torch.testing.assert_close(*found)
