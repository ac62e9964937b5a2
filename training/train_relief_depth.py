#!/usr/bin/env python3
"""Train the depth network of bench/refinement_gain.py on the narrow relief domain, on a CPU.

    ./dev run python tools/train_relief_depth.py

It learns, with labels, from plain surfaces lit from the upper left, and so has to be wrong on
painted ones lit from elsewhere: what refinement has to mend.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor
from training import cosine_decay, depth_loss, normalise, save_depth_network
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from training.scenes.relief import draw_relief
from training.scenes.textures import atlas

SIDE, PATCH = 56, 7
SCALE, SHIFT = 7.0, 0.1
"""Depth is SCALE / (disparity + SHIFT), as published for Depth Anything V2 Small."""
TARGET = Path(__file__).parents[1] / "bench" / "relief_depth"


def build_network() -> DepthAnythingForDepthEstimation:
    """A Depth Anything V2 network of 0.7 M parameters, with random weights."""
    backbone = Dinov2Config(
        hidden_size=96, num_hidden_layers=4, num_attention_heads=4, image_size=SIDE, patch_size=PATCH,
        out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False, use_mask_token=False,
    )  # fmt: skip
    config = DepthAnythingConfig(
        backbone_config=backbone, patch_size=PATCH, reassemble_hidden_size=96,
        neck_hidden_sizes=[16, 32, 48, 64], fusion_hidden_size=32, head_in_index=-1, head_hidden_size=32,
    )  # fmt: skip
    network = DepthAnythingForDepthEstimation(config)
    # The head ends in a ReLU; started at the mean disparity, it is awake everywhere.
    torch.nn.init.constant_(network.head.conv3.bias, SCALE / 1.5 - SHIFT)
    return network


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
        draw_relief(first + index, textures, SIDE, narrow=True)
        for index in track(range(options.scenes), "render")
    ]
    images = torch.stack([relief.image for relief in reliefs])  # (N, 3, S, S)
    disparities = SCALE / torch.stack([relief.depth for relief in reliefs]) - SHIFT  # (N, S, S)

    network = build_network().to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.5e-3, weight_decay=0.02, fused=True)
    scheduler = cosine_decay(optimiser, options.steps, warm_up=200)
    running: float | Tensor = 0.0
    for step in track(range(options.steps), "train"):
        chosen = torch.randint(len(images), (options.batch,))
        picture = images[chosen] + 0.02 * torch.rand(()) * torch.randn(options.batch, 3, SIDE, SIDE)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(
                normalise(picture).contiguous(memory_format=torch.channels_last)
            ).predicted_depth
        loss = depth_loss(predicted.float(), disparities[chosen])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        scheduler.step()
        running = loss.item() if step == 0 else running + 0.01 * (loss.item() - running)
        if (step + 1) % 500 == 0:
            print(f"step {step + 1}/{options.steps}  loss {running:.4f}", flush=True)

    save_depth_network(network.eval(), SIDE, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
