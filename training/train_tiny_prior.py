#!/usr/bin/env python3
"""Train the embedded prior `tiny`: a small diffusion model of re-lit images, on a CPU.

    ./dev run python training/train_tiny_prior.py --scenes FILE --textures N
    ./dev run python training/train_tiny_prior.py --scenes FILE --textures N --seed 1 --start FOLDER

The second command continues from a prior with other reliefs. The prior is given the input image and
the light. It learns from renderings and their true normals how the image looks under that light; it
never sees depth. Half of the images are reliefs of the broad domain, half are the scenes of
training/train_tiny_depth.py (FILE), as small as the prior sees an image. `bench/refinement_gain.py`
measures the gain of a refinement with it.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from torch import Tensor
from torch.nn.functional import mse_loss, normalize, pixel_unshuffle

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine.sds import add_noise
from redepth_ros.core.relighting import Lighting, relight, sample_lighting
from redepth_ros.models.diffusion import LIGHT_FEATURES, light_features
from training.loop import RunningMean, cosine_decay, moving_average, optimizer_step, render_scenes
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

SIDE, CELL, LATENTS = 56, 4, 12
"""Pixels per image and per latent cell (both along a side), and channels of a latent."""
SCENE_SHARE = 0.5
"""Share of a batch that are scenes."""
BETAS = (0.00085, 0.012)
"""First and last noise variance of the schedule, as of Stable Diffusion."""
VIEW = torch.tensor([0.0, 0.0, -1.0])[None, :, None, None]
"""Direction to the camera."""
TARGET = Path(__file__).parents[1] / "redepth_ros" / "models" / "tiny" / "prior"


def render_relief(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Render the relief of a seed: image (3, S, S) uint8 and normals (3, S, S) int8, in 1/127."""
    torch.set_num_threads(1)
    rendering = sample_relief(seed, atlas(), SIDE)
    packed = (rendering.normals * 127.0).round().to(torch.int8).numpy()
    return to_uint8(rendering.image.numpy()), packed


def shrink_scene(image: np.ndarray, disparity: np.ndarray, camera: PinholeCamera) -> tuple[Tensor, Tensor]:
    """Reduce a scene to the size that the prior sees.

    Args:
        image: (H, W, 3) uint8.
        disparity: (H, W) in 1/metres, 0 in the sky.
        camera: of this size.

    Returns:
        Image (3, S, w) uint8 and normals (3, S, w) int8, in 1/127.
    """
    height, width = disparity.shape
    size = (round(width * SIDE / height), SIDE)
    normals = camera.normals(1.0 / torch.from_numpy(disparity).float()).nan_to_num()  # (3, H, W)
    # The sky faces the camera, as it does where a network's depth is flat.
    normals[2][normals.square().sum(0) < 0.5] = -1.0
    small = cv2.resize(normals.permute(1, 2, 0).numpy(), size, interpolation=cv2.INTER_AREA)
    unit = normalize(torch.from_numpy(small), dim=-1).permute(2, 0, 1)
    seen = torch.from_numpy(cv2.resize(image, size, interpolation=cv2.INTER_AREA)).permute(2, 0, 1)
    return seen, (unit * 127.0).round().to(torch.int8)


def read_scenes(path: Path, textures: int) -> tuple[Tensor, Tensor]:
    """Read the scenes that train_tiny_depth.py has rendered: images and normals, (N, 3, S, w) each.

    Args:
        path: scenes-FIRST-COUNT.npz, named by the first seed and the number of scenes.
        textures: number of textures of the scenes; it decides which camera a seed has.
    """
    with np.load(path) as stored:
        images, disparities = stored["arr_0"], stored["arr_1"]
    first = int(path.stem.split("-")[1])
    height, width = disparities.shape[1:]
    found = [
        shrink_scene(image, disparity, sample_scene(first + number, textures, width, height).camera)
        for number, (image, disparity) in enumerate(zip(images, disparities, strict=True))
    ]
    return torch.stack([one[0] for one in found]), torch.stack([one[1] for one in found])


def sample_images(
    reliefs: tuple[Tensor, Tensor], scenes: tuple[Tensor, Tensor], size: int
) -> tuple[Tensor, Tensor]:
    """Draw images (B, 3, S, S) in [0, 1] with their unit normals, mirrored and with other colours."""
    chosen = torch.randint(len(reliefs[0]), (size,))
    images, normals = reliefs[0][chosen].float(), reliefs[1][chosen].float()
    for index in range(int(size * SCENE_SHARE)):
        which = int(torch.randint(len(scenes[0]), ()))
        left = int(torch.randint(scenes[0].shape[-1] - SIDE + 1, ()))
        window = (which, slice(None), slice(None), slice(left, left + SIDE))
        images[index], normals[index] = scenes[0][window].float(), scenes[1][window].float()
    mirrored = torch.rand(size) < 0.5
    images[mirrored] = images[mirrored].flip(-1)
    normals[mirrored] = normals[mirrored].flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    images = (images / 255.0).clamp_min(1e-3) ** torch.exp(0.3 * torch.randn(size, 1, 1, 1))
    images = images * (1.0 + 0.1 * torch.randn(size, 3, 1, 1))
    return images.clamp(0.0, 1.0), normalize(normals, dim=1, eps=1e-6)


def sample_batch_lighting(size: int, generator: torch.Generator) -> Lighting:
    """Draw lights: one in eight in the style of the paper, the others in that of the preset `default`."""
    published = torch.rand(size, 1, 1, 1, generator=generator) < 0.125
    ours = sample_lighting("soft", size, generator)
    theirs = sample_lighting("paper", size, generator)
    return Lighting(
        **{
            field.name: torch.where(published, getattr(theirs, field.name), getattr(ours, field.name))
            for field in fields(Lighting)
        }
    )


def build_autoencoder(images: Tensor) -> AutoencoderTiny:
    """Build a TAESD encoder that computes the principal components of 4 x 4 pixels, half whitened.

    Nothing is trained. Three convolutions without a nonlinearity gather pixels, the last one mixes
    them. The decoder, which refinement never calls, has random weights.

    Args:
        images: (N, 3, S, S) in [0, 1], from which the components are computed.
    """
    mix, mean = _principal_components(images)
    vae = AutoencoderTiny(
        latent_channels=LATENTS,
        scaling_factor=1.0,
        force_upcast=False,
        encoder_block_out_channels=(3 * CELL**2,) * 3,
        num_encoder_blocks=(0, 0, 0),
        decoder_block_out_channels=(16, 16, 16),
        num_decoder_blocks=(0, 0, 0),
    )
    first, second, third, last = vae.encoder.layers
    with torch.no_grad():
        for layer in (first, second, third, last):
            layer.weight.zero_()
            if layer.bias is not None:
                layer.bias.zero_()
        for color in range(3):
            first.weight[color, color, 1, 1] = 1.0
            for row in range(2):
                for column in range(2):
                    second.weight[4 * color + 2 * row + column, color, 1 + row, 1 + column] = 1.0
        # After two gatherings channel 4 (4 c + 2 r + s) + 2 R + S holds pixel (2 R + r, 2 S + s).
        for channel in range(12):
            for row in range(2):
                for column in range(2):
                    third.weight[4 * channel + 2 * row + column, channel, 1 + row, 1 + column] = 1.0
        for channel in range(12):
            color, (row, column) = channel // 4, divmod(channel % 4, 2)
            for block in range(4):
                down, right = divmod(block, 2)
                pixel = color * CELL**2 + CELL * (2 * down + row) + 2 * right + column
                last.weight[:, 4 * channel + block, 1, 1] = mix[:, pixel]
        last.bias.copy_(-mix @ mean)
    return vae.eval().requires_grad_(False)


def _principal_components(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first components of 4 x 4 pixels, (12, 48), and the mean, (48,)."""
    cells = pixel_unshuffle(images, CELL).movedim(1, -1).reshape(-1, 3 * CELL**2)  # (M, 48)
    mean = cells.mean(0)
    _, deviation, directions = torch.linalg.svd(
        (cells - mean)[torch.randperm(len(cells))[:50_000]], full_matrices=False
    )
    deviation = deviation[:LATENTS] / math.sqrt(50_000)
    mix = directions[:LATENTS] / deviation[:, None].sqrt()  # (12, 48), half whitened
    return mix / deviation.square().div(deviation).mean().sqrt(), mean


def build_network() -> UNet2DConditionModel:
    """Build a UNet of 3.4 M parameters: noisy latents, image latents and light in, clean latents out."""
    return UNet2DConditionModel(
        sample_size=SIDE // CELL,
        in_channels=2 * LATENTS,
        out_channels=LATENTS,
        block_out_channels=(64, 112),
        layers_per_block=1,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=4,
        cross_attention_dim=64,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        encoder_hid_dim=LIGHT_FEATURES,
        encoder_hid_dim_type="text_proj",
        class_embed_type="projection",
        projection_class_embeddings_input_dim=LIGHT_FEATURES,
    )


def save(vae: AutoencoderTiny, network: UNet2DConditionModel, folder: Path) -> None:
    """Write a pipeline folder in half precision, its prediction type `sample`."""
    scheduler = DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=BETAS[0],
        beta_end=BETAS[1],
        beta_schedule="scaled_linear",
        prediction_type="sample",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=vae,
        text_encoder=None,
        tokenizer=None,
        unet=network,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    # Remove the folder of the prior that training continued from, and a copy of the decoder's
    # channels, about which diffusers warns.
    for part in ("unet", "vae"):
        path = folder / part / "config.json"
        config = json.loads(path.read_text())
        config.pop("_name_or_path", None)
        if part == "vae":
            config.pop("block_out_channels", None)
        path.write_text(json.dumps(config, indent=2) + "\n")
    vae.float()


@torch.no_grad()
def sample_latents(
    vae: AutoencoderTiny,
    reliefs: tuple[Tensor, Tensor],
    scenes: tuple[Tensor, Tensor],
    size: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Draw latents of images and of their re-lit versions, (B, 12, s, s), and light features (B, 6)."""
    images, normals = sample_images(reliefs, scenes, size)
    lighting = sample_batch_lighting(size, generator)
    seen = vae.encode(images * 2.0 - 1.0).latents
    clean = vae.encode(relight(images, normals, VIEW, lighting) * 2.0 - 1.0).latents
    return seen, clean, light_features(lighting)


def train(
    network: UNet2DConditionModel,
    vae: AutoencoderTiny,
    reliefs: tuple[Tensor, Tensor],
    scenes: tuple[Tensor, Tensor],
    generator: torch.Generator,
    options: argparse.Namespace,
) -> UNet2DConditionModel:
    """Train a network and return the moving average of its weights."""
    alphas = (1.0 - torch.linspace(BETAS[0] ** 0.5, BETAS[1] ** 0.5, 1000) ** 2).cumprod(0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.rate, weight_decay=0.01, fused=True)
    scheduler = cosine_decay(optimizer, [options.steps], warm_up=300)
    averaged, running, start = moving_average(network), RunningMean(), time.monotonic()
    for step in range(options.steps):
        seen, clean, features = sample_latents(vae, reliefs, scenes, options.batch, generator)
        # Refinement uses high noise levels, where the prior has to infer the image from the shape.
        low = 600 if torch.rand(()) < 0.75 else 0
        t = torch.randint(low, 1000, (options.batch,))
        noised = add_noise(clean, torch.randn_like(clean), alphas[t, None, None, None])
        features = features * (torch.rand(options.batch, 1) >= 0.1)
        seen = seen * (torch.rand(options.batch, 1, 1, 1) >= 0.1)
        inputs = torch.cat((noised, seen), dim=1).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(inputs, t, features[:, None], class_labels=features).sample
        loss = mse_loss(predicted.float(), clean)  # between latents (B, 12, s, s)
        optimizer_step(loss, network, optimizer, scheduler)
        averaged.update_parameters(network)
        running.add(loss.item())
        if (step + 1) % 250 == 0:
            minutes = (time.monotonic() - start) / 60
            print(f"step {step + 1}/{options.steps}  loss {running.value:.4f}  {minutes:.1f} min", flush=True)
        if (step + 1) % 1000 == 0:
            torch.save(averaged.module.state_dict(), options.work / "averaged.pt")
    return averaged.module


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/redepth_prior"), help="folder for the scenes")
    parser.add_argument("--reliefs", type=int, default=16000)
    parser.add_argument("--scenes", type=Path, required=True, help="scenes of train_tiny_depth.py, .npz")
    parser.add_argument("--textures", type=int, required=True, help="their number, which that script prints")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1.2e-3, help="largest learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes, the lights and the noise")
    parser.add_argument("--start", type=Path, help="folder of a prior to continue from")
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the prior to write")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    first = options.seed * 10_000_000 + 1_000_000
    reliefs = render_scenes("reliefs", render_relief, first, options.reliefs, options.work)
    scenes = read_scenes(options.scenes, options.textures)
    images, normals = sample_images(reliefs, scenes, 2000)
    relit = relight(images, normals, VIEW, sample_batch_lighting(2000, generator))
    if options.start:
        vae = AutoencoderTiny.from_pretrained(options.start / "vae", torch_dtype=torch.float32)
        network = UNet2DConditionModel.from_pretrained(options.start / "unet", torch_dtype=torch.float32)
    else:
        vae = build_autoencoder(torch.cat((images, relit)))
        network = build_network()
    network = network.to(memory_format=torch.channels_last).train()
    print(f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters", flush=True)
    network = train(network, vae, reliefs, scenes, generator, options)
    save(vae, network, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
