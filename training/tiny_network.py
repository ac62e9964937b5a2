"""The embedded depth network `tiny`: its architecture, its first weights, and its file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from transformers import DepthAnythingForDepthEstimation

from training.loop import build_depth_network, save_depth_network

__all__ = ["PATCH", "SIDE", "build_network", "save"]

SIDE, PATCH = 240, 10
"""Pixels: longer side of the input, and of a patch."""
MEAN_DISPARITY = 3.0
"""Mean of the network's output, as of Depth Anything V2, for which the refinement's depth scale and
disparity offset were published."""


def build_network() -> DepthAnythingForDepthEstimation:
    """Build a Depth Anything V2 network of 1.5 M parameters, with random weights."""
    network = build_depth_network(
        SIDE,
        PATCH,
        128,
        [0, 2, 3, 4],
        neck_hidden_sizes=[32, 48, 64, 96],
        fusion_hidden_size=48,
        head_hidden_size=16,
    )
    _initialize(network)
    return network


def _initialize(network: DepthAnythingForDepthEstimation) -> None:
    """Draw weights that keep the variance from layer to layer.

    With those of transformers (standard deviation 0.02, for fine-tuning) the decoder fades what the encoder
    sees: after thousands of steps the output was still a vertical gradient.
    """
    for module in network.backbone.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    patches = network.backbone.embeddings.patch_embeddings.projection.weight
    nn.init.normal_(patches, std=patches[0].numel() ** -0.5)
    for part in (network.neck, network.head):
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                transposed = isinstance(module, nn.ConvTranspose2d)
                inputs = module.in_channels if transposed else module.weight[0].numel()
                gain = 0.5 if "residual" in name else 1.0
                nn.init.normal_(module.weight, std=gain * (2.0 / inputs) ** 0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    nn.init.normal_(network.head.conv3.weight, std=0.02)
    # The head ends in a ReLU: from zero, half of all networks would never get a gradient.
    nn.init.ones_(network.head.conv3.bias)


def save(network: DepthAnythingForDepthEstimation, folder: Path) -> None:
    """Write the network, its disparity scaled to the range of Depth Anything V2."""
    with torch.no_grad():
        network.head.conv3.weight.mul_(MEAN_DISPARITY)
        network.head.conv3.bias.mul_(MEAN_DISPARITY)
    save_depth_network(network, SIDE, folder)
