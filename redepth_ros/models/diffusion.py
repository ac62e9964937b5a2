"""Diffusion models of diffusers as priors of re-lit images.

Two kinds of folder in the layout of a diffusers pipeline are supported:

- a StableDiffusionPipeline (SD 1.5, SD 2.1 base, SD-Turbo), conditioned on a prompt;
- a UNet with twice as many input channels, in the layout of InstructPix2Pix and IC-Light, conditioned
  on the input image. It has a text encoder or is told the light instead, see `light_features`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import interpolate, pad

from redepth_ros.core.refine.sds import noise_from_prediction
from redepth_ros.core.relighting import Lighting
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.download import Report
from redepth_ros.models.files import read_json
from redepth_ros.models.hub import find_folder
from redepth_ros.models.pipeline import (
    FILES,
    LIGHT_FEATURES,
    NEEDS,
    VAE_FILES,
    VAE_NEEDS,
    load_parts,
    scaling_factor,
)
from redepth_ros.models.prior_runtime import compile_networks

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

__all__ = ["LIGHT_FEATURES", "TINY_PRIOR", "DiffusionPrior", "light_features"]

TINY_PRIOR = Path(__file__).parent / "tiny" / "prior"
"""Folder of the embedded prior, for demos and tests."""

MAX_CPU_PARAMETERS = 100_000_000
"""Parameters of a UNet that refines on a CPU. Stable Diffusion 1.5 has 860 million: a step took 170 s on two
cores."""


def light_features(lighting: Lighting) -> Tensor:
    """Return the lights as numbers of order one, for a light-conditioned UNet: (B, 6).

    x / -z and y / -z of the direction in the camera's optical frame (right, down), the
    diffuse weight, the ambient share, the specular weight, and log2(shininess) / 6.
    """
    x, y, z = lighting.direction.flatten(1).unbind(1)
    columns = (x / -z, y / -z, lighting.diffuse, lighting.ambient, lighting.specular)
    shininess = lighting.shininess.log2() / 6.0
    return torch.stack([c.flatten().expand(len(x)) for c in (*columns, shininess)], dim=1)


@dataclass(frozen=True)
class Condition:
    """Conditions that depend on one image only."""

    latents: Tensor | None
    """Clean latents of the input image, (1, C, h, w), for an image-conditioned UNet."""
    text: Tensor | None
    """Embedding of the prompt, (1, L, D)."""
    empty: Tensor | None
    """Embedding of the empty prompt, (1, L, D)."""


class DiffusionPrior:
    """A diffusion model; `core.refine.networks.Prior` documents its methods."""

    def __init__(
        self,
        unet: UNet2DConditionModel,
        vae: Any,
        scheduler: Any,
        text: tuple[Any, Any] | None,
        name: str,
        condition_scale: float = 1.0,
    ) -> None:
        """Args:
        unet, vae, scheduler: of diffusers.
        text: tokenizer and text encoder; None for a UNet without a prompt.
        name: shown to the user.
        condition_scale: scale of the input image's latents, relative to that of the noisy ones.
        """
        self.unet = unet.eval().requires_grad_(False)
        self.vae = vae.eval().requires_grad_(False)
        self.name = name
        parameter = next(unet.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.alphas = scheduler.alphas_cumprod.to(self.device)
        self._prediction = str(scheduler.config.prediction_type)
        self._text = text
        self._image_conditioned = unet.config.in_channels == 2 * unet.config.out_channels
        self._light_features = unet.config.class_embed_type == "projection"
        self._letterbox = bool(unet.config.sample_size) and not self._light_features
        self.light_conditioned = (
            self._image_conditioned and self._light_features and self._prediction == "sample"
        )
        self._condition_factor = self._factor * condition_scale

    @classmethod
    def load(
        cls,
        name: str,
        *,
        vae: str = "",
        runtime: str = "torch",
        device: str = "auto",
        precision: str = "auto",
        report: Report | None = None,
    ) -> DiffusionPrior:
        """Load a prior.

        Args:
            name: `tiny` (the embedded prior), a folder in the layout of a diffusers pipeline, or a
                hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5.
            vae: folder or hub id of another autoencoder for the same latents, such as
                madebyollin/taesd; empty takes that of the pipeline.
            runtime: of `PRIOR_RUNTIMES`, see `compile_networks`.
            device: auto, cpu, cuda or cuda:N.
            precision: auto, float32, float16 or bfloat16.
            report: called with the progress of a download; None draws progress bars.

        Raises:
            ConfigError: the device, the precision or the runtime is not available.
            ModelError: the prior is missing or damaged, its parts do not fit each other, or a compiler is
                missing.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        folder, vae_folder = TINY_PRIOR, None
        if name != "tiny":
            folder = find_folder(name, FILES, option="prior", needs=NEEDS, report=report)
        if vae:
            vae_folder = find_folder(vae, VAE_FILES, option="vae", needs=VAE_NEEDS, report=report)
        unet, autoencoder, scheduler, text = load_parts(name, folder, vae_folder or folder / "vae", dtype)
        move_to(where, f"prior {name!r}", unet, autoencoder, *([text[1]] if text else []))
        compile_networks(runtime, where, unet, autoencoder.encoder)
        condition_scale = 1.0
        if "InstructPix2Pix" in str(read_json(name, folder / "model_index.json").get("_class_name")):
            # It takes the input's latents unscaled; IC-Light takes them scaled.
            own = read_json(name, folder / "vae" / "config.json")
            condition_scale = 1.0 / scaling_factor(name, own)
        full_name = f"{name} with {vae}" if vae else name
        return cls(unet, autoencoder, scheduler, text, full_name, condition_scale)

    @property
    def modules(self) -> tuple[Module, ...]:
        """UNet, autoencoder, and the text encoder if there is one."""
        return (self.unet, self.vae, *([self._text[1]] if self._text else []))

    @property
    def needs_gpu(self) -> bool:
        """Whether the UNet is so large that it takes minutes for a step on a CPU."""
        return sum(one.numel() for one in self.unet.parameters()) > MAX_CPU_PARAMETERS

    @torch.no_grad()
    def condition(self, image: Tensor, prompt: str) -> Condition:
        latents = text = empty = None
        if self._image_conditioned:
            latents = self._encode(image) * self._condition_factor
        if self._text:
            text, empty = self._embed(prompt), self._embed("")
        return Condition(latents, text, empty)

    def prompt_warning(self, prompt: str) -> str:
        if not prompt:
            return ""
        if not self._text:
            return "the prior ignores the prompt: it is conditioned on the image and the light"
        count = len(self._text[0](prompt).input_ids)
        if count <= self._max_prompt_tokens:
            return ""
        return f"the prompt has {count} tokens; the prior reads the first {self._max_prompt_tokens}"

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        _, (rows, columns) = self._fit(height, width)
        return int(self.unet.config.out_channels), rows // self._cell, columns // self._cell

    def encode(self, images: Tensor, noise: Tensor | None) -> Tensor:
        return self._encode(images, noise) * self._factor

    def predict_noise(
        self, noised: Tensor, t: Tensor, condition: Condition, lighting: Lighting, conditional: Tensor | bool
    ) -> Tensor:
        inputs = noised
        given = torch.as_tensor(conditional, device=self.device).expand(len(noised))
        given = given[:, None, None]  # (B, 1, 1)
        if condition.latents is not None:
            # Guidance removes the prompt if there is one, as in IC-Light; otherwise all conditions.
            seen = condition.latents.to(noised).expand(len(noised), -1, -1, -1)
            if conditional is not True and not self._text:
                seen = seen * given[..., None]
            inputs = torch.cat((noised, seen), dim=1)
        features = None
        if self._light_features:
            features = light_features(lighting).to(self.device, self.dtype) * given[..., 0]
            tokens = features[:, None]  # (B, 1, 6)
        else:
            assert condition.text is not None
            assert condition.empty is not None
            tokens = torch.where(given, condition.text, condition.empty)  # (B, L, D)
        predicted = self.unet(inputs.to(self.dtype), t, tokens, class_labels=features).sample
        alpha = self.alphas[t, None, None, None]
        return noise_from_prediction(predicted.float(), noised.float(), alpha, self._prediction)

    @property
    def _max_prompt_tokens(self) -> int:
        """Longest prompt of tokenizer and text encoder."""
        assert self._text is not None
        tokenizer, encoder = self._text
        return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))

    @property
    def _factor(self) -> float:
        return float(self.vae.config.scaling_factor)

    @property
    def _cell(self) -> int:
        """Pixels per latent, along one side."""
        config = self.vae.config
        blocks = config.get("encoder_block_out_channels") or config.block_out_channels
        return int(2 ** (len(blocks) - 1))

    def _fit(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return height and width of the resized image, and those of the padded image.

        A UNet with a sample_size takes squares of that size, letterboxed as in Re-Depth Anything. A
        light-conditioned one takes images whose shorter side is at most its sample_size; the border
        is repeated up to a multiple of the latents' size.
        """
        side = (self.unet.config.sample_size or 0) * self._cell
        if self._letterbox:
            scale = min(side / height, side / width)
            return (round(height * scale), round(width * scale)), (side, side)
        scale = min(1.0, side / min(height, width)) if side else 1.0
        inner = (round(height * scale), round(width * scale))
        multiple = self._cell * 2 ** (len(self.unet.config.block_out_channels) - 1)
        return inner, (-(-inner[0] // multiple) * multiple, -(-inner[1] // multiple) * multiple)

    def _encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return unscaled latents; sampled with the noise if the autoencoder has a distribution."""
        inner, whole = self._fit(*images.shape[-2:])
        below, beside = whole[0] - inner[0], whole[1] - inner[1]
        if self._letterbox:
            fitted = interpolate(images, inner, mode="bilinear", align_corners=True)
            top, left = below // 2, beside // 2
            fitted = pad(fitted, (left, beside - left, top, below - top))
        else:
            fitted = interpolate(images, inner, mode="bilinear", antialias=True)
            fitted = pad(fitted, (0, beside, 0, below), mode="replicate")
        encoded = self.vae.encode((2.0 * fitted - 1.0).to(next(self.vae.parameters()).dtype))
        if not hasattr(encoded, "latent_dist"):
            return encoded.latents.float()
        mean = encoded.latent_dist.mean.float()
        return mean if noise is None else mean + encoded.latent_dist.std.float() * noise.to(mean)

    def _embed(self, prompt: str) -> Tensor:
        """Return the embedding of a prompt: (1, L, D)."""
        assert self._text is not None
        tokenizer, encoder = self._text
        tokens = tokenizer(
            prompt,
            padding="max_length",
            max_length=self._max_prompt_tokens,
            truncation=True,
            return_tensors="pt",
        )
        return encoder(tokens.input_ids.to(self.device))[0].to(self.dtype)
