"""The embedded depth network `tiny`: its architecture, where its training starts, and its file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.functional import interpolate
from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

from training.loop import save_depth_network

__all__ = ["PATCH", "SIDE", "build_network", "load_encoder", "save"]

SIDE, PATCH = 240, 10
"""Pixels: longer side of the input, and of a patch."""
MEAN_DISPARITY = 3.0
"""Mean of the network's output, as of Depth Anything V2, for which the refinement's depth scale and
disparity offset were published."""


def build_network() -> DepthAnythingForDepthEstimation:
    """Build a Depth Anything V2 network of 2.0 M parameters, with random weights."""
    backbone = Dinov2Config(
        hidden_size=128,
        num_hidden_layers=8,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=PATCH,
        out_indices=[2, 4, 6, 8],
        apply_layernorm=True,
        reshape_hidden_states=False,
        use_mask_token=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=128,
        reassemble_factors=[4, 2, 1, 0.5],
        neck_hidden_sizes=[24, 32, 48, 64],
        fusion_hidden_size=32,
        head_in_index=-1,
        head_hidden_size=16,
    )
    network = DepthAnythingForDepthEstimation(config)
    # The head ends in a ReLU: from zero, half of all networks would never get a gradient.
    torch.nn.init.ones_(network.head.conv3.bias)
    return network


def load_encoder(network: DepthAnythingForDepthEstimation, folder: Path) -> None:
    """Start from the encoder of a network of another input size and depth.

    Its position embeddings are resampled. Layers that it lacks are spread among its own, and start as
    copies whose output is scaled by 0.
    """
    source = DepthAnythingForDepthEstimation.from_pretrained(folder, torch_dtype=torch.float32).backbone
    weights = {name: value for name, value in source.state_dict().items() if ".layer." not in name}
    name = "embeddings.position_embeddings"
    cls, grid = weights[name][:, :1], weights[name][:, 1:]  # (1, 1, C), (1, n * n, C)
    old, new = round(grid.shape[1] ** 0.5), SIDE // PATCH
    square = grid.reshape(1, old, old, -1).permute(0, 3, 1, 2)
    square = interpolate(square, (new, new), mode="bicubic").flatten(2).transpose(1, 2)
    weights[name] = torch.cat((cls, square), dim=1)
    layers, count = source.encoder.layer, len(network.backbone.encoder.layer)
    for number in range(count):
        # Of two layers that come from the same one, the second adds nothing at first.
        origin = number * len(layers) // count
        repeated = number > 0 and origin == (number - 1) * len(layers) // count
        for part, value in layers[origin].state_dict().items():
            scale = 0.0 if repeated and "lambda1" in part else 1.0
            weights[f"encoder.layer.{number}.{part}"] = scale * value
    network.backbone.load_state_dict(weights)


def save(network: DepthAnythingForDepthEstimation, folder: Path) -> None:
    """Write the network, its disparity scaled to the range of Depth Anything V2."""
    with torch.no_grad():
        network.head.conv3.weight.mul_(MEAN_DISPARITY)
        network.head.conv3.bias.mul_(MEAN_DISPARITY)
    save_depth_network(network, SIDE, folder)
