"""Diffusion models through diffusers, as priors of what a re-lit picture looks like.

Two kinds of folder in the layout of a diffusers pipeline are understood:

- a StableDiffusionPipeline (SD 1.5, SD 2.1 base, SD-Turbo): told what the picture shows by a
  prompt;
- a UNet with twice as many input channels, in the layout of InstructPix2Pix and IC-Light, which
  sees the input picture beside the noisy latents. With or without a text encoder; without
  one it may be told the light instead, see `light_features`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate, pad

from redepth_ros.core.errors import ModelError
from redepth_ros.core.relighting import Lighting
from redepth_ros.core.refine.sds import PREDICTIONS, noise_from_prediction
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.hub import find_folder, first_line, read_json

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

__all__ = ["LIGHT_FEATURES", "TINY_PRIOR", "DiffusionPrior", "light_features"]

TINY_PRIOR = Path(__file__).parent / "tiny" / "prior"
"""Folder of the embedded prior: for demos and tests, not for robots."""

FILES = (
    "model_index.json", "scheduler/*.json", "tokenizer/*", "text_encoder/config.json", "unet/config.json",
    "vae/config.json", "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)  # fmt: skip
CODER_FILES = ("config.json", "diffusion_pytorch_model.safetensors")

LIGHT_FEATURES = 6
"""Numbers that tell a UNet the light, see `light_features`."""


def light_features(lighting: Lighting) -> Tensor:
    """The lights as numbers of order one, for a UNet that is told them: (B, 6).

    x / -z and y / -z of the direction in the camera's optical frame (right, down), the
    diffuse weight, the ambient share, the specular weight, and log2(shininess) / 6.
    """
    x, y, z = lighting.direction.flatten(1).unbind(1)
    columns = (x / -z, y / -z, lighting.diffuse, lighting.ambient, lighting.specular)
    shininess = lighting.shininess.log2() / 6.0
    return torch.stack([c.flatten().expand(len(x)) for c in (*columns, shininess)], dim=1)


@dataclass(frozen=True)
class Condition:
    """What a prior knows of one picture."""

    latents: Tensor | None
    """Clean latents of the input picture, (1, C, h, w), for a UNet that sees it."""
    text: Tensor | None
    """Tokens of the prompt, (1, L, D)."""
    empty: Tensor | None
    """Tokens of no prompt, (1, L, D)."""


class DiffusionPrior:
    """A diffusion model ready to judge pictures; see `core.prior.Prior` for its methods."""

    def __init__(
        self, unet: UNet2DConditionModel, coder: Any, scheduler: Any, text: tuple[Any, Any] | None, name: str,
        condition_scale: float = 1.0,
    ) -> None:  # fmt: skip
        """Args:
        unet, coder, scheduler: diffusers' own.
        text: tokenizer and text encoder, None for a UNet that takes no prompt.
        name: for people.
        condition_scale: of the input picture's latents over that of the noisy ones.
        """
        self.unet = unet.eval().requires_grad_(False)
        self.coder = coder.eval().requires_grad_(False)
        self.name = name
        parameter = next(unet.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        self.alphas = scheduler.alphas_cumprod.to(self.device)
        self._prediction = str(scheduler.config.prediction_type)
        self._text = text
        self._sees_picture = unet.config.in_channels == 2 * unet.config.out_channels
        self._told_light = unet.config.class_embed_type == "projection"
        self._in_square = bool(unet.config.sample_size) and not self._told_light
        self.knows_light = self._sees_picture and self._told_light and self._prediction == "sample"
        self._condition_factor = self._factor * condition_scale

    @classmethod
    def load(
        cls, name: str, *, coder: str = "", device: str = "auto", precision: str = "auto"
    ) -> DiffusionPrior:
        """Load a prior.

        Args:
            name: `tiny` (the embedded one), a folder in the layout of a diffusers pipeline, or a
                hub id such as stable-diffusion-v1-5/stable-diffusion-v1-5.
            coder: another autoencoder for the same latents, such as madebyollin/taesd (an
                AutoencoderTiny's folder or hub id); empty takes the pipeline's own.
            device: auto, cpu, cuda or cuda:N.
            precision: auto, float32, float16 or bfloat16.

        Raises:
            ConfigError: a device or precision that can't be had.
            ModelError: the prior is missing, damaged, or its parts do not fit each other.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        needs = "model_index.json, unet/, vae/ and scheduler/"
        folder = TINY_PRIOR if name == "tiny" else find_folder(name, FILES, option="prior", needs=needs)
        index = read_json(name, folder / "model_index.json")
        for part in ("unet", "vae", "scheduler"):
            if not (folder / part).is_dir():
                raise ModelError(
                    f"prior {name!r} has no {part}/ in {folder}; a prior's folder holds {needs}, as a "
                    "diffusers pipeline's save_pretrained writes them"
                )
        try:
            unet, autoencoder, scheduler, text = _load_parts(folder, index, coder, dtype)
        except ModelError:
            raise
        except Exception as error:  # diffusers and transformers pass on what their parts raise
            raise ModelError(
                f"prior {name!r} can't be loaded: {first_line(error)}. Its weights must be safetensors "
                "that fit their config.json: download it again"
            ) from error
        _check_fit(name, unet, autoencoder, scheduler, text)
        move_to(where, f"prior {name!r}", unet, autoencoder, *([text[1]] if text else []))
        condition_scale = 1.0
        if "InstructPix2Pix" in str(index.get("_class_name")):
            # It takes the input's latents as its own autoencoder gives them, IC-Light scaled.
            own = read_json(name, folder / "vae" / "config.json")
            condition_scale = 1.0 / float(own.get("scaling_factor", 0.18215))
        full_name = f"{name} with {coder}" if coder else name
        return cls(unet, autoencoder, scheduler, text, full_name, condition_scale)

    @torch.no_grad()
    def condition(self, picture: Tensor, prompt: str) -> Condition:
        latents = text = empty = None
        if self._sees_picture:
            latents = self._mean_latents(picture) * self._condition_factor
        if self._text:
            text, empty = self._embed(prompt), self._embed("")
        return Condition(latents, text, empty)

    def remark(self, prompt: str) -> str:
        if not prompt:
            return ""
        if not self._text:
            return "the prior takes no prompt: it goes by the picture and the light"
        count = len(self._text[0](prompt).input_ids)
        if count <= self._longest_prompt:
            return ""
        return f"the prompt has {count} tokens, of which the prior reads {self._longest_prompt}"

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        _, (rows, columns) = self._fit(height, width)
        return int(self.unet.config.out_channels), rows // self._cell, columns // self._cell

    def encode(self, pictures: Tensor, noise: Tensor | None) -> Tensor:
        return self._mean_latents(pictures, noise) * self._factor

    def predict_noise(
        self, noised: Tensor, t: Tensor, condition: Condition, lighting: Lighting, conditional: bool
    ) -> Tensor:
        count, inputs = len(noised), noised
        if condition.latents is not None:
            # Guidance is by the prompt where there is one, as IC-Light's is; else by all that is known.
            seen = condition.latents if conditional or self._text else torch.zeros_like(condition.latents)
            inputs = torch.cat((noised, seen.expand(count, -1, -1, -1).to(noised)), dim=1)
        features = None
        if self._told_light:
            features = light_features(lighting).to(self.device, self.dtype) * float(conditional)
            tokens = features[:, None]  # (B, 1, 6)
        else:
            text = condition.text if conditional else condition.empty
            assert text is not None
            tokens = text.expand(count, -1, -1)
        predicted = self.unet(inputs.to(self.dtype), t, tokens, class_labels=features).sample
        alpha = self.alphas[t, None, None, None]
        return noise_from_prediction(predicted.float(), noised.float(), alpha, self._prediction)

    @property
    def _longest_prompt(self) -> int:
        """Tokens that tokenizer and text encoder take at most."""
        assert self._text is not None
        tokenizer, encoder = self._text
        return int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))

    @property
    def _factor(self) -> float:
        return float(self.coder.config.scaling_factor)

    @property
    def _cell(self) -> int:
        """Pixels a latent cell has along a side."""
        config = self.coder.config
        blocks = config.get("encoder_block_out_channels") or config.block_out_channels
        return int(2 ** (len(blocks) - 1))

    def _fit(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of a picture as it is shown, and of the whole that the autoencoder sees.

        A UNet of a fixed sample_size sees squares of that size, with black bars, as in Re-Depth
        Anything. Otherwise there are no bars, and the border is repeated to fill cells; one that is told
        the light sees pictures whose shorter side is its sample_size at most.
        """
        side = (self.unet.config.sample_size or 0) * self._cell
        if self._in_square:
            scale = min(side / height, side / width)
            return (round(height * scale), round(width * scale)), (side, side)
        scale = min(1.0, side / min(height, width)) if side else 1.0
        inner = (round(height * scale), round(width * scale))
        multiple = self._cell * 2 ** (len(self.unet.config.block_out_channels) - 1)
        return inner, (-(-inner[0] // multiple) * multiple, -(-inner[1] // multiple) * multiple)

    def _mean_latents(self, pictures: Tensor, noise: Tensor | None = None) -> Tensor:
        """Latents before scaling; sampled with the noise where the autoencoder has a spread."""
        inner, whole = self._fit(*pictures.shape[-2:])
        below, beside = whole[0] - inner[0], whole[1] - inner[1]
        if self._in_square:
            fitted = interpolate(pictures, inner, mode="bilinear", align_corners=True)
            top, left = below // 2, beside // 2
            fitted = pad(fitted, (left, beside - left, top, below - top))
        else:
            fitted = interpolate(pictures, inner, mode="bilinear", antialias=True)
            fitted = pad(fitted, (0, beside, 0, below), mode="replicate")
        encoded = self.coder.encode((2.0 * fitted - 1.0).to(next(self.coder.parameters()).dtype))
        if not hasattr(encoded, "latent_dist"):
            return encoded.latents.float()
        spread = encoded.latent_dist
        mean = spread.mean.float()
        return mean if noise is None else mean + spread.std.float() * noise.to(mean)

    def _embed(self, prompt: str) -> Tensor:
        """Tokens of a prompt: (1, L, D)."""
        assert self._text is not None
        tokenizer, encoder = self._text
        tokens = tokenizer(
            prompt,
            padding="max_length",
            max_length=self._longest_prompt,
            truncation=True,
            return_tensors="pt",
        )
        return encoder(tokens.input_ids.to(self.device))[0].to(self.dtype)


def _load_parts(folder: Path, index: dict[str, Any], coder: str, dtype: torch.dtype) -> tuple[Any, ...]:
    """UNet, autoencoder, scheduler, and (tokenizer, text encoder) or None."""
    from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    options: dict[str, Any] = {
        "torch_dtype": dtype, "use_safetensors": True, "low_cpu_mem_usage": False, "output_loading_info": True
    }  # fmt: skip
    unet = _whole(UNet2DConditionModel.from_pretrained(folder / "unet", **options), folder / "unet")
    place = folder / "vae"
    if coder:
        place = find_folder(coder, CODER_FILES, option="coder", needs="an autoencoder's config.json")
    kind = read_json(str(place), place / "config.json").get("_class_name")
    classes = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
    if kind not in classes:
        raise ModelError(f"{place} holds a {kind!r}; the autoencoder must be one of: {', '.join(classes)}")
    autoencoder = _whole(classes[kind].from_pretrained(place, **options), place)
    # Whatever scheduler the folder names, its noise levels and prediction type are what counts.
    scheduler = DDIMScheduler.from_pretrained(folder / "scheduler")
    text = None
    if (index.get("text_encoder") or [None])[0]:
        place = folder / "text_encoder"
        encoder = _whole(
            CLIPTextModel.from_pretrained(place, dtype=dtype, use_safetensors=True, output_loading_info=True),
            place,
        )
        text = (CLIPTokenizer.from_pretrained(folder / "tokenizer"), encoder.eval().requires_grad_(False))
    return unet, autoencoder, scheduler, text


def _whole(loaded: tuple[Any, dict[str, Any]], place: Path) -> Any:
    """A network that was loaded with all of its weights: what is missing would be random."""
    network, found = loaded
    if missing := sorted(found["missing_keys"]):
        raise ModelError(
            f"{place} lacks {len(missing)} of the network's weights, {missing[0]} for one: its safetensors "
            "do not belong to its config.json; download it again"
        )
    return network


def _check_fit(name: str, unet: Any, coder: Any, scheduler: Any, text: tuple[Any, Any] | None) -> None:
    """Raise ModelError unless the parts of a prior fit each other."""
    channels, inputs, size = unet.config.out_channels, unet.config.in_channels, unet.config.sample_size
    if size is not None and not isinstance(size, int):
        raise ModelError(
            f"prior {name!r}: the UNet's sample_size is {size!r}; it must be one whole number, for squares"
        )
    if coder.config.latent_channels != channels:
        raise ModelError(
            f"prior {name!r}: the autoencoder's latents have {coder.config.latent_channels} channels, the "
            f"UNet's {channels}; take the autoencoder that the UNet was trained with"
        )
    if inputs not in (channels, 2 * channels):
        raise ModelError(
            f"prior {name!r}: the UNet takes {inputs} channels; {channels} (a text-to-image model) or "
            f"{2 * channels} (one that sees the input picture) can be used"
        )
    if scheduler.config.prediction_type not in PREDICTIONS:
        raise ModelError(
            f"prior {name!r} predicts {scheduler.config.prediction_type!r}; it must be one of: "
            f"{', '.join(PREDICTIONS)}"
        )
    if unet.config.class_embed_type == "projection":
        told = unet.config.projection_class_embeddings_input_dim
        if told != LIGHT_FEATURES or unet.config.encoder_hid_dim != LIGHT_FEATURES:
            raise ModelError(
                f"prior {name!r}: the UNet is told {told} numbers of the light; they must be "
                f"{LIGHT_FEATURES}, see light_features"
            )
    elif text is None:
        raise ModelError(
            f"prior {name!r} has neither a text encoder nor a UNet that is told the light; copy "
            "text_encoder/ and tokenizer/ to its folder"
        )
    elif text[1].config.hidden_size != unet.config.cross_attention_dim:
        raise ModelError(
            f"prior {name!r}: the text encoder gives {text[1].config.hidden_size} numbers a token, the UNet "
            f"takes {unet.config.cross_attention_dim}; take the text encoder it was trained with"
        )
