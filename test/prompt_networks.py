"""Prompt Depth Anything with small random weights, saved in the layout of transformers."""

from pathlib import Path

import torch
from transformers import (
    Dinov2Config,
    PromptDepthAnythingConfig,
    PromptDepthAnythingForDepthEstimation,
    PromptDepthAnythingImageProcessorPil,
)

__all__ = ["save_prompt_network"]


def save_prompt_network(folder: Path) -> str:
    """Save a network as depth-anything/prompt-depth-anything-vits-hf, narrower and shallower."""
    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
    )
    config = PromptDepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        fusion_hidden_size=16,
        neck_hidden_sizes=[8, 16, 32, 32],
        head_hidden_size=8,
        depth_estimation_type="metric",
        max_depth=None,
    )
    torch.manual_seed(0)
    network = PromptDepthAnythingForDepthEstimation(config)
    # With the weights that transformers draws, the output is constant to seven digits.
    for weight in (one for part in (network.neck, network.head) for one in part.parameters()):
        if weight.dim() > 1:
            torch.nn.init.kaiming_normal_(weight, nonlinearity="relu")
    network.head.conv3.weight.data *= 0.1  # within the range of the sigmoid
    network.save_pretrained(folder)
    PromptDepthAnythingImageProcessorPil(
        size=56,
        ensure_multiple_of=14,
        keep_aspect_ratio=True,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ).save_pretrained(folder)
    return str(folder)
