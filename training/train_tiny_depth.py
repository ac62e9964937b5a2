#!/usr/bin/env python3
"""Train the embedded depth network `tiny` on rendered scenes, from a seed, on a CPU.

    ./dev run python training/train_tiny_depth.py --work /tmp/tiny

Renders the training scenes into WORK (a second call reuses them), trains, and writes the network
into the package. On two cores rendering takes about 12 minutes and training about 43.
`bench/tiny_depth.py` measures the result.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, l1_loss
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from redepth_ros.core.images import to_uint8
from training.loop import (
    RunningMean,
    cosine_decay,
    depth_loss,
    moving_average,
    normalize_image,
    optimizer_step,
    render_scenes,
    save_depth_network,
)
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

WIDTH, HEIGHT, PATCH = 160, 120, 10
CROPS = ((120, 160), (120, 160), (110, 160), (90, 160), (60, 160), (120, 120))
"""Sizes (rows, columns) of training batches: the aspect ratios of cameras."""
MEAN_DISPARITY = 3.0
"""Mean of the network's output, as of Depth Anything V2, for which the refinement's depth scale and
disparity offset were published."""
TARGET = Path(__file__).parents[1] / "redepth_ros" / "models" / "tiny" / "depth"


def build_network() -> DepthAnythingForDepthEstimation:
    """Build a Depth Anything V2 network of 1.9 M parameters, with random weights."""
    backbone = Dinov2Config(
        hidden_size=128,
        num_hidden_layers=6,
        num_attention_heads=4,
        image_size=WIDTH,
        patch_size=PATCH,
        out_indices=[2, 3, 5, 6],
        apply_layernorm=True,
        reshape_hidden_states=False,
        use_mask_token=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=128,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[32, 48, 64, 96],
        fusion_hidden_size=48,
        head_in_index=-1,
        head_hidden_size=32,
    )
    network = DepthAnythingForDepthEstimation(config)
    # The head ends in a ReLU: from zero, half of all networks would never get a gradient.
    torch.nn.init.ones_(network.head.conv3.bias)
    return network


def render_scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Render a seed: image (3, H, W) uint8 and disparity (H, W) float16 in 1/metres."""
    torch.set_num_threads(1)
    textures = atlas()
    rendering = render(sample_scene(seed, textures[0].shape[0], WIDTH, HEIGHT), textures)
    return to_uint8(rendering.image.numpy()), (1.0 / rendering.depth).to(torch.float16).numpy()


def _uniform(generator: torch.Generator, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def sample_batch(
    images: Tensor, disparities: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw crops of scenes, all of one shape, with other colours: (B, 3, h, w), (B, h, w)."""
    uniform = partial(_uniform, generator)
    chosen = torch.randint(len(images), (size,), generator=generator).tolist()
    rows, columns = CROPS[int(torch.randint(len(CROPS), (1,), generator=generator))]
    crops, targets = [], []
    for index in chosen:
        zoom = float(uniform(0.6, 1.0, 1)) if float(uniform(0, 1, 1)) < 0.6 else 1.0
        h, w = int(rows * zoom), int(columns * zoom)
        top = int(uniform(0, HEIGHT - h + 0.99, 1))
        left = int(uniform(0, WIDTH - w + 0.99, 1))
        crop = images[index, :, top : top + h, left : left + w].float() / 255.0
        target = disparities[index, top : top + h, left : left + w].float()
        if zoom < 1.0:
            crop = interpolate(crop[None], (rows, columns), mode="bilinear", antialias=True)[0]
            target = interpolate(target[None, None], (rows, columns), mode="nearest")[0, 0]
        if float(uniform(0, 1, 1)) < 0.5:
            crop, target = crop.flip(-1), target.flip(-1)
        crops.append(crop)
        targets.append(target)
    image, disparity = _change_colors(torch.stack(crops), generator), torch.stack(targets)
    # Each target is in units of its own mean: the network's unit, with no free shift.
    return image, disparity / disparity.mean(dim=(1, 2), keepdim=True).clamp_min(1e-6)


def _change_colors(image: Tensor, generator: torch.Generator) -> Tensor:
    """Change exposure, white balance, contrast, gamma and noise of images (B, 3, h, w), as cameras do."""
    uniform, size = partial(_uniform, generator), len(image)
    image = image ** torch.exp(uniform(-0.4, 0.4, size, 1, 1, 1))
    image = image * uniform(0.7, 1.3, size, 1, 1, 1) * uniform(0.88, 1.12, size, 3, 1, 1)
    gray = image.mean(dim=1, keepdim=True)
    image = gray + (image - gray) * uniform(0.0, 1.3, size, 1, 1, 1)
    level = image.mean(dim=(1, 2, 3), keepdim=True)
    image = level + (image - level) * uniform(0.7, 1.3, size, 1, 1, 1)
    blurred = avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
    image = torch.lerp(image, blurred, uniform(-0.3, 1.0, size, 1, 1, 1))
    noise = torch.randn(image.shape, generator=generator)
    return (image + uniform(0.0, 0.04, size, 1, 1, 1) * noise).clamp(0.0, 1.0)


def train(
    network: DepthAnythingForDepthEstimation,
    training: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor],
    steps: int,
    batch: int,
    seed: int,
) -> DepthAnythingForDepthEstimation:
    """Train on images and disparities; return the moving average of the weights."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02, fused=True)
    scheduler = cosine_decay(optimizer, steps, warm_up=300)
    averaged, running, start = moving_average(network), RunningMean(), time.monotonic()
    for step in range(steps):
        image, target = sample_batch(*training, batch, generator)
        pixels = normalize_image(image).contiguous(memory_format=torch.channels_last)  # (B, 3, h, w)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(pixels).predicted_depth  # (B, h, w)
        loss = depth_loss(predicted.float(), target)
        optimizer_step(loss, network, optimizer, scheduler)
        averaged.update_parameters(network)
        running.add(loss.item())
        if (step + 1) % 250 == 0:
            error = validate(averaged.module, *validation)
            minutes = (time.monotonic() - start) / 60
            print(
                f"step {step + 1}/{steps}  loss {running.value:.4f}  held-out {error:.4f}  {minutes:.1f} min",
                flush=True,
            )
    return averaged.module


@torch.inference_mode()
def validate(network: DepthAnythingForDepthEstimation, images: Tensor, disparities: Tensor) -> float:
    """Return the mean absolute error of the disparity on held-out scenes, relative to their means."""
    network.eval()
    errors = []
    for image, target in zip(images.split(32), disparities.float().split(32), strict=True):
        predicted = network(normalize_image(image.float() / 255.0)).predicted_depth
        errors.append(l1_loss(predicted, target / target.mean(dim=(1, 2), keepdim=True)).item())
    network.train()
    return sum(errors) / len(errors)


def save(network: DepthAnythingForDepthEstimation, folder: Path) -> None:
    """Write the network, its disparity scaled to the range of Depth Anything V2."""
    with torch.no_grad():
        network.head.conv3.weight.mul_(MEAN_DISPARITY)
        network.head.conv3.bias.mul_(MEAN_DISPARITY)
    save_depth_network(network, WIDTH, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/redepth_tiny"), help="folder for the scenes")
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the network to write")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    first = options.seed * 10_000_000
    training = render_scenes(render_scene, first, options.scenes, options.work)
    validation = render_scenes(render_scene, first + 9_000_000, 96, options.work)
    network = build_network().to(memory_format=torch.channels_last)
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{count / 1e6:.2f} M parameters, {len(training[0])} scenes", flush=True)
    network = train(network, training, validation, options.steps, options.batch, options.seed)
    save(network, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
