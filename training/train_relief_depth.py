#!/usr/bin/env python3
"""Train the depth network of bench/refinement_gain.py on the narrow relief domain, on a CPU.

    ./dev run python training/train_relief_depth.py

It learns, with labels, from plain surfaces lit from the upper left. It is therefore wrong on painted
surfaces lit from elsewhere, and refinement has errors to correct.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from transformers import DepthAnythingForDepthEstimation

from training.loop import (
    RunningMean,
    build_depth_network,
    cosine_decay,
    depth_loss,
    normalize_image,
    optimizer_step,
    save_depth_network,
)
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas

SIDE, PATCH = 56, 7
SCALE, SHIFT = 7.0, 0.1
"""Depth is SCALE / (disparity + SHIFT), as published for Depth Anything V2 Small."""
TARGET = Path(__file__).parents[1] / "bench" / "relief_depth"


def build_network() -> DepthAnythingForDepthEstimation:
    """Build a Depth Anything V2 network of 0.7 M parameters, with random weights."""
    network = build_depth_network(
        SIDE,
        PATCH,
        96,
        [1, 2, 3, 4],
        neck_hidden_sizes=[16, 32, 48, 64],
        fusion_hidden_size=32,
        head_hidden_size=32,
    )
    # The head ends in a ReLU; at the mean disparity it passes gradients everywhere.
    torch.nn.init.constant_(network.head.conv3.bias, SCALE / 1.5 - SHIFT)
    return network


def train(
    network: DepthAnythingForDepthEstimation, images: Tensor, disparities: Tensor, steps: int, batch: int
) -> None:
    """Train a network on images (N, 3, S, S) and their disparities (N, S, S)."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=0.02, fused=True)
    scheduler = cosine_decay(optimizer, [steps], warm_up=200)
    running = RunningMean()
    for step in track(range(steps), "train"):
        chosen = torch.randint(len(images), (batch,))
        image = images[chosen] + 0.02 * torch.rand(()) * torch.randn(batch, 3, SIDE, SIDE)
        pixels = normalize_image(image).contiguous(memory_format=torch.channels_last)  # (B, 3, S, S)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(pixels).predicted_depth  # (B, S, S)
        loss = depth_loss(predicted.float(), disparities[chosen])
        optimizer_step(loss, network, optimizer, scheduler)
        running.add(loss.item())
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}/{steps}  loss {running.value:.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=8000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the network to write")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    textures, first = atlas(), options.seed * 10_000_000
    reliefs = [
        sample_relief(first + index, textures, SIDE, narrow=True)
        for index in track(range(options.scenes), "render")
    ]
    images = torch.stack([relief.image for relief in reliefs])  # (N, 3, S, S)
    disparities = SCALE / torch.stack([relief.depth for relief in reliefs]) - SHIFT  # (N, S, S)

    network = build_network().to(memory_format=torch.channels_last).train()
    train(network, images, disparities, options.steps, options.batch)
    save_depth_network(network.eval(), SIDE, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
