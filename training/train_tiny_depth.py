#!/usr/bin/env python3
"""Train the embedded depth network `tiny` on rendered scenes, from a seed, on a CPU.

    ./dev run python tools/train_tiny_depth.py --work /tmp/tiny

renders the training scenes once into WORK (a second call reuses them), trains, and writes the
network into the package. On two cores rendering takes about 12 minutes and training about 43.
`bench/tiny_depth.py` states what came of it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, l1_loss
from training import cosine_decay, depth_loss, normalise, render_scenes, save_depth_network
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import draw_scene

WIDTH, HEIGHT, PATCH = 160, 120, 10
CROPS = ((120, 160), (120, 160), (110, 160), (90, 160), (60, 160), (120, 120))
"""Sizes (rows, columns) of training batches: the aspects that cameras have."""
MEAN_DISPARITY = 3.0
"""Mean of the network's output: what Depth Anything V2's own disparities are like, for which
the refinement's scale and shift were published."""
TARGET = Path(__file__).parents[1] / "redepth_ros" / "models" / "tiny" / "depth"


def build_network() -> DepthAnythingForDepthEstimation:
    """A Depth Anything V2 network of 1.9 M parameters, with random weights."""
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
    # The head ends in a ReLU: started at zero, half of all networks would never wake up.
    torch.nn.init.ones_(network.head.conv3.bias)
    return network


def render_scene(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A seed's picture (3, H, W) uint8 and disparity (H, W) float16 in 1/metres."""
    torch.set_num_threads(1)
    textures = atlas()
    rendering = render(draw_scene(seed, textures[0].shape[0], WIDTH, HEIGHT), textures)
    image = (rendering.image * 255.0).round().to(torch.uint8).numpy()
    return image, (1.0 / rendering.depth).to(torch.float16).numpy()


def draw_batch(
    images: Tensor, disparities: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random crops of random scenes, all of one shape, recoloured: (B, 3, h, w), (B, h, w)."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=generator)

    chosen = torch.randint(len(images), (size,), generator=generator).tolist()
    rows, columns = CROPS[int(torch.randint(len(CROPS), (1,), generator=generator))]
    pictures, targets = [], []
    for index in chosen:
        zoom = float(uniform(0.6, 1.0, 1)) if float(uniform(0, 1, 1)) < 0.6 else 1.0
        h, w = int(rows * zoom), int(columns * zoom)
        top = int(uniform(0, HEIGHT - h + 0.99, 1))
        left = int(uniform(0, WIDTH - w + 0.99, 1))
        picture = images[index, :, top : top + h, left : left + w].float() / 255.0
        target = disparities[index, top : top + h, left : left + w].float()
        if zoom < 1.0:
            picture = interpolate(picture[None], (rows, columns), mode="bilinear", antialias=True)[0]
            target = interpolate(target[None, None], (rows, columns), mode="nearest")[0, 0]
        if float(uniform(0, 1, 1)) < 0.5:
            picture, target = picture.flip(-1), target.flip(-1)
        pictures.append(picture)
        targets.append(target)
    picture, target = torch.stack(pictures), torch.stack(targets)
    # What cameras do to colour: exposure, white balance, contrast, gamma, few colours, noise.
    picture = picture ** torch.exp(uniform(-0.4, 0.4, size, 1, 1, 1))
    picture = picture * uniform(0.7, 1.3, size, 1, 1, 1) * uniform(0.88, 1.12, size, 3, 1, 1)
    grey = picture.mean(dim=1, keepdim=True)
    picture = grey + (picture - grey) * uniform(0.0, 1.3, size, 1, 1, 1)
    level = picture.mean(dim=(1, 2, 3), keepdim=True)
    picture = level + (picture - level) * uniform(0.7, 1.3, size, 1, 1, 1)
    blurred = avg_pool2d(picture, 3, stride=1, padding=1, count_include_pad=False)
    picture = torch.lerp(picture, blurred, uniform(-0.3, 1.0, size, 1, 1, 1))
    noise = torch.randn(picture.shape, generator=generator)
    picture = (picture + uniform(0.0, 0.04, size, 1, 1, 1) * noise).clamp(0.0, 1.0)
    # Each target is measured in its own mean: the network's unit, with no free shift.
    return picture, target / target.mean(dim=(1, 2), keepdim=True).clamp_min(1e-6)


def train(
    network: DepthAnythingForDepthEstimation, images: Tensor, disparities: Tensor,
    validation: tuple[Tensor, Tensor], steps: int, batch: int, seed: int,
) -> DepthAnythingForDepthEstimation:  # fmt: skip
    """The average of the network's weights over the last stretch of its training."""
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.02, fused=True)
    scheduler = cosine_decay(optimiser, steps, warm_up=300)
    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )
    start, running = time.monotonic(), 0.0
    for step in range(steps):
        picture, target = draw_batch(images, disparities, batch, generator)
        pixels = normalise(picture).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(pixels).predicted_depth
        loss = depth_loss(predicted.float(), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        scheduler.step()
        averaged.update_parameters(network)
        running += 0.01 * (loss.item() - running) if step else loss.item()
        if (step + 1) % 250 == 0:
            error = validate(averaged.module, *validation)
            minutes = (time.monotonic() - start) / 60
            print(
                f"step {step + 1}/{steps}  loss {running:.4f}  held-out {error:.4f}  {minutes:.1f} min",
                flush=True,
            )
    return averaged.module


@torch.inference_mode()
def validate(network: DepthAnythingForDepthEstimation, images: Tensor, disparities: Tensor) -> float:
    """Mean absolute error of the disparity over held-out scenes, in their mean disparity."""
    network.eval()
    errors = []
    for picture, target in zip(images.split(32), disparities.float().split(32), strict=True):
        predicted = network(normalise(picture.float() / 255.0)).predicted_depth
        errors.append(l1_loss(predicted, target / target.mean(dim=(1, 2), keepdim=True)).item())
    network.train()
    return sum(errors) / len(errors)


def save(network: DepthAnythingForDepthEstimation, folder: Path) -> None:
    """Write the network, its disparity in the range of Depth Anything V2's."""
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
    images, disparities = render_scenes(render_scene, options.seed * 10_000_000, options.scenes, options.work)
    validation = render_scenes(render_scene, options.seed * 10_000_000 + 9_000_000, 96, options.work)
    network = build_network().to(memory_format=torch.channels_last)
    count = sum(parameter.numel() for parameter in network.parameters())
    print(f"{count / 1e6:.2f} M parameters, {len(images)} scenes", flush=True)
    network = train(network, images, disparities, validation, options.steps, options.batch, options.seed)
    save(network, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
