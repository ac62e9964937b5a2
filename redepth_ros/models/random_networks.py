"""Networks of the published sizes with random weights: they time a machine without a download."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.diffusion import Condition, DiffusionPrior
from redepth_ros.models.hub import loading

__all__ = ["DEPTH_SIZES", "DepthSize", "random_depth_network", "random_stable_diffusion"]

PROMPT_SHAPE = (1, 77, 768)
"""Tokens of a prompt of Stable Diffusion 1.5."""

VAE_CONFIG: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "scaling_factor": 0.18215,
}
"""Of Stable Diffusion 1.5."""


@dataclass(frozen=True)
class DepthSize:
    """The size of a Depth Anything V2 network, as its config.json gives it."""

    hidden: int
    layers: int
    heads: int
    stages: tuple[int, ...]
    """Layers whose tokens the decoder takes."""
    neck: tuple[int, ...]
    fusion: int
    parameters: int


DEPTH_SIZES = {
    "Small": DepthSize(384, 12, 6, (3, 6, 9, 12), (48, 96, 192, 384), 64, 24_784_705),
    "Base": DepthSize(768, 12, 12, (3, 6, 9, 12), (96, 192, 384, 768), 128, 97_470_017),
    "Large": DepthSize(1024, 24, 16, (5, 12, 18, 24), (256, 512, 1024, 1024), 256, 335_314_625),
}
"""By the word in the hub name depth-anything/Depth-Anything-V2-SIZE-hf."""


def random_depth_network(size: str, *, device: str = "auto", precision: str = "auto") -> DepthAnything:
    """Return a Depth Anything V2 network with random weights.

    Args:
        size: of `DEPTH_SIZES`.
        device, precision: see `DepthAnything.load`.

    Raises:
        ConfigError: the device or the precision is not available.
        ModelError: the memory of the device does not suffice.
    """
    where = pick_device(device)
    dtype = pick_dtype(precision, where)
    known = DEPTH_SIZES[size]
    name = f"random DA-V2 {size}"
    with loading():
        from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

        backbone = Dinov2Config(
            hidden_size=known.hidden,
            num_hidden_layers=known.layers,
            num_attention_heads=known.heads,
            image_size=518,
            patch_size=14,
            out_indices=list(known.stages),
            apply_layernorm=True,
            reshape_hidden_states=False,
            use_mask_token=False,
        )
        config = DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=14,
            reassemble_hidden_size=known.hidden,
            neck_hidden_sizes=list(known.neck),
            fusion_hidden_size=known.fusion,
            head_in_index=-1,
            head_hidden_size=32,
        )
        with torch.device(where):  # random numbers of a large network take long on a CPU
            network = DepthAnythingForDepthEstimation(config)
    torch.nn.init.constant_(network.head.conv3.bias, 3.0)  # disparity above 0
    network.to(dtype)
    move_to(where, name, network)
    return DepthAnything(network, name)


class RandomPrior(DiffusionPrior):
    """A text-to-image prior without a text encoder: the prompt is random."""

    def condition(self, image: Tensor, prompt: str) -> Condition:
        return Condition(None, *torch.randn(2, *PROMPT_SHAPE, device=self.device, dtype=self.dtype))

    def prompt_warning(self, prompt: str) -> str:
        return ""


def random_stable_diffusion(
    *, tiny_vae: bool = False, device: str = "auto", precision: str = "auto"
) -> DiffusionPrior:
    """Return Stable Diffusion 1.5 with random weights.

    Args:
        tiny_vae: whether the autoencoder has the size of TAESD.
        device, precision: see `DiffusionPrior.load`.

    Raises:
        ConfigError: the device or the precision is not available.
        ModelError: the memory of the device does not suffice.
    """
    where = pick_device(device)
    dtype = pick_dtype(precision, where)
    name = "random SD 1.5 with TAESD" if tiny_vae else "random SD 1.5"
    with loading():
        from diffusers import AutoencoderKL, AutoencoderTiny, DDIMScheduler, UNet2DConditionModel

        with torch.device(where):
            unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=PROMPT_SHAPE[-1])
            vae = AutoencoderTiny() if tiny_vae else AutoencoderKL(**VAE_CONFIG)
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    for network in (unet, vae):
        network.to(dtype)
    move_to(where, name, unet, vae)
    return RandomPrior(unet, vae, scheduler, None, name)
