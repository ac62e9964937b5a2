"""The parts of a diffusers pipeline that make a prior: which ones fit, and loading them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.sds import PREDICTIONS
from redepth_ros.models.files import ModelFiles, Part, has_part, read_json, variant_of
from redepth_ros.models.hub import check_complete, first_line, loading

__all__ = ["FILES", "LIGHT_FEATURES", "NEEDS", "VAE_FILES", "VAE_NEEDS", "load_parts", "scaling_factor"]

LIGHT_FEATURES = 6
"""Number of light features, see `redepth_ros.models.diffusion.light_features`."""

WEIGHTS = "diffusion_pytorch_model"
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInstructPix2PixPipeline",
)
"""Pipelines whose parts fit this module."""

OTHER_PIPELINES = {
    "Inpaint": "its UNet also takes a mask",
    "XL": "its UNet needs two text encoders and the image's size",
    "StableDiffusion3": "its transformer is trained by flow matching",
    "Flux": "its transformer is trained by flow matching",
    "LatentConsistency": "its UNet is distilled for a few steps and takes the guidance scale as an input",
}
"""Why models of other families do not fit, by a part of the pipeline's name."""

NEEDS = "model_index.json, unet/, vae/ and scheduler/"
VAE_NEEDS = "config.json and weights of an autoencoder"


def _check_pipeline(name: str, index: dict[str, Any]) -> None:
    """Raise ModelError unless the model_index.json of a prior names a pipeline that fits."""
    kind = index.get("_class_name")
    if kind in PIPELINES:
        return
    reason = next((f" ({text})" for part, text in OTHER_PIPELINES.items() if part in str(kind)), "")
    raise ModelError(
        f"prior {name!r} is a {kind!r}{reason}; it must be one of: {', '.join(PIPELINES)}. Stable Diffusion "
        "1.5, 2.1 base and SD-Turbo fit, for example stable-diffusion-v1-5/stable-diffusion-v1-5"
    )


def _check_autoencoder(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError unless a config.json is that of an autoencoder that fits."""
    if config.get("_class_name") not in AUTOENCODERS:
        raise ModelError(
            f"vae {name!r} is a {config.get('_class_name')!r}; the autoencoder must be one of: "
            f"{', '.join(AUTOENCODERS)}"
        )


VAE_FILES = ModelFiles((Part(stem=WEIGHTS),), _check_autoencoder)
FILES = ModelFiles(
    parts=(
        Part("scheduler", ("scheduler_config.json",)),
        Part("tokenizer", ("tokenizer.json", "vocab.json"), optional=True),
        Part("text_encoder", stem="model", optional=True),
        Part("vae", stem=WEIGHTS),
        Part("unet", stem=WEIGHTS),
    ),
    check=_check_pipeline,
    index="model_index.json",
    patterns=("tokenizer/*",),
)


def load_parts(name: str, folder: Path, vae_folder: Path, dtype: torch.dtype) -> tuple[Any, ...]:
    """Return UNet, autoencoder, scheduler, and (tokenizer, text encoder) or None.

    Args:
        name: of the prior, in messages.
        folder: of the pipeline.
        vae_folder: of the autoencoder.
        dtype: of the networks.

    Raises:
        ModelError: a part is damaged, of another family, or does not fit the others.
    """
    _check_noise_levels(name, read_json(name, folder / "scheduler" / "scheduler_config.json"))
    try:
        parts = _load_parts(folder, vae_folder, dtype)
    except ModelError:
        raise
    except Exception as error:  # diffusers and transformers raise errors of many libraries
        raise ModelError(
            f"prior {name!r} can't be loaded: {first_line(error)}. Its weights must be safetensors "
            "that fit their config.json; download it again"
        ) from error
    _check_fit(name, *parts)
    return parts


@loading()
def _load_parts(folder: Path, vae_folder: Path, dtype: torch.dtype) -> tuple[Any, ...]:
    """Load the parts, each with all of its weights."""
    from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
    from diffusers.utils import logging
    from transformers import CLIPTextModel, CLIPTokenizer

    logging.disable_progress_bar()  # diffusers has one of its own for shards

    def load(kind: Any, place: Path, stem: str = WEIGHTS, **options: Any) -> Any:
        network, loading_info = kind.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, variant=variant_of(place, stem), **options
        )
        check_complete(str(place), loading_info)
        return network

    options: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    unet = load(UNet2DConditionModel, folder / "unet", **options)
    kind = read_json(str(vae_folder), vae_folder / "config.json")
    _check_autoencoder(str(vae_folder), kind)
    classes = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    autoencoder = load(classes[kind["_class_name"]], vae_folder, **options)
    # Of any scheduler, only noise levels and prediction type are used.
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    text = None
    if has_part(read_json(str(folder), folder / "model_index.json"), "text_encoder"):
        encoder = load(CLIPTextModel, folder / "text_encoder", "model", dtype=dtype)
        text = (CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder.eval().requires_grad_(False))
    return unet, autoencoder, scheduler, text


def _check_noise_levels(name: str, scheduler: dict[str, Any]) -> None:
    """Raise ModelError unless a scheduler has the noise levels of a discrete diffusion, given by betas."""
    betas = scheduler.get("trained_betas") or scheduler.get("beta_schedule")
    continuous = scheduler.get("use_flow_sigmas") or scheduler.get("timestep_type") == "continuous"
    if not betas or continuous:
        raise ModelError(
            f"prior {name!r} has the scheduler {scheduler.get('_class_name')!r} without a schedule of "
            "betas: its noise levels are those of flow matching or EDM; use a discrete diffusion model, such "
            "as Stable Diffusion 1.5"
        )
    for key in ("beta_start", "beta_end", "num_train_timesteps"):
        if key in scheduler and type(scheduler[key]) not in (int, float):
            raise ModelError(
                f"prior {name!r}: the scheduler's {key} is {scheduler[key]!r}; it must be a number"
            )


def scaling_factor(name: str, config: Mapping[str, Any]) -> float:
    """Return the scaling factor of an autoencoder's configuration.

    Raises:
        ModelError: it is not a number above 0.
    """
    value = config.get("scaling_factor", 0.18215)  # the default of diffusers
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0.0:
        raise ModelError(
            f"prior {name!r}: the autoencoder's scaling_factor is {value!r}; it must be a number above 0"
        )
    return float(value)


def _check_fit(name: str, unet: Any, vae: Any, scheduler: Any, text: tuple[Any, Any] | None) -> None:
    """Raise ModelError unless the parts of a prior fit each other."""
    channels, inputs, size = unet.config.out_channels, unet.config.in_channels, unet.config.sample_size
    scaling_factor(name, vae.config)
    for setting in ("addition_embed_type", "time_cond_proj_dim"):
        if (value := getattr(unet.config, setting)) is not None:
            raise ModelError(
                f"prior {name!r}: the UNet has {setting} {value!r}, as in SDXL and distilled models; use "
                "Stable Diffusion 1.5, 2.1 base or SD-Turbo"
            )
    if size is not None and not isinstance(size, int):
        raise ModelError(
            f"prior {name!r}: the UNet's sample_size is {size!r}; it must be one integer, for squares"
        )
    if vae.config.latent_channels != channels:
        raise ModelError(
            f"prior {name!r}: the autoencoder's latents have {vae.config.latent_channels} channels, the "
            f"UNet's {channels}; use the autoencoder that the UNet was trained with"
        )
    if inputs not in (channels, 2 * channels):
        raise ModelError(
            f"prior {name!r}: the UNet takes {inputs} channels; it must take {channels} (a text-to-image "
            f"model) or {2 * channels} (a model conditioned on the input image), unlike an inpainting model"
        )
    if scheduler.config.prediction_type not in PREDICTIONS:
        raise ModelError(
            f"prior {name!r} predicts {scheduler.config.prediction_type!r}; it must be one of: "
            f"{', '.join(PREDICTIONS)}"
        )
    if unet.config.class_embed_type == "projection":
        features = unet.config.projection_class_embeddings_input_dim
        if features != LIGHT_FEATURES or unet.config.encoder_hid_dim != LIGHT_FEATURES:
            raise ModelError(
                f"prior {name!r}: the UNet takes {features} light features; it must take "
                f"{LIGHT_FEATURES}, see redepth_ros.models.diffusion.light_features"
            )
    elif text is None:
        raise ModelError(
            f"prior {name!r} has neither a text encoder nor a light-conditioned UNet; copy text_encoder/ and "
            "tokenizer/ to its folder"
        )
    elif text[1].config.hidden_size != unet.config.cross_attention_dim:
        raise ModelError(
            f"prior {name!r}: the text encoder has {text[1].config.hidden_size} features per token, the UNet "
            f"{unet.config.cross_attention_dim}; use the text encoder that the UNet was trained with"
        )
