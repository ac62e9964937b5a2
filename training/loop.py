"""What the training scripts share: rendered scenes, the learning rate, the loss and the folder of a
depth network."""

from __future__ import annotations

import math
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor
from torch.nn.functional import avg_pool2d
from transformers import DepthAnythingForDepthEstimation, DPTImageProcessor

IMAGENET_MEAN, IMAGENET_DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def render_scenes(
    what: Callable[[int], tuple[NDArray, NDArray]], first: int, count: int, work: Path
) -> tuple[Tensor, Tensor]:
    """What a function makes of consecutive seeds, by all cores, or read back from the folder WORK."""
    path = work / f"{what.__name__}-{first}-{count}.npz"
    if not path.exists():
        seeds = range(first, first + count)
        with get_context("spawn").Pool() as pool:
            found = list(track(pool.imap(what, seeds, chunksize=8), what.__name__, total=count))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, *(np.stack(part) for part in zip(*found, strict=True)))
    with np.load(path) as stored:
        return torch.from_numpy(stored["arr_0"]), torch.from_numpy(stored["arr_1"])


def cosine_decay(
    optimiser: torch.optim.Optimizer, steps: int, warm_up: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate rises for some steps, then falls along a cosine to a thousandth."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimiser,
        lambda step: min(1.0, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps)) + 1e-3,
    )


def depth_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the disparity, plus that of its gradients at four scales."""
    error = (predicted - target).unsqueeze(1)  # (B, 1, h, w)
    loss = error.abs().mean()
    for _ in range(4):
        loss = loss + 0.5 * (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean())
        error = avg_pool2d(error, 2)
    return loss


def normalise(picture: Tensor) -> Tensor:
    """ImageNet's mean and deviation, which the package applies too: (B, 3, h, w)."""
    mean = torch.tensor(IMAGENET_MEAN)[:, None, None]
    deviation = torch.tensor(IMAGENET_DEVIATION)[:, None, None]
    return (picture - mean) / deviation


def save_depth_network(network: DepthAnythingForDepthEstimation, side: int, folder: Path) -> None:
    """Write a network in half precision, in the folder layout of a hub model.

    Args:
        side: longer side of what the network sees, in pixels.
    """
    patch = network.config.patch_size
    network.to(torch.float16).save_pretrained(folder)
    DPTImageProcessor(
        size={"height": side, "width": side}, keep_aspect_ratio=True, ensure_multiple_of=patch,
        image_mean=IMAGENET_MEAN, image_std=IMAGENET_DEVIATION,
    ).save_pretrained(folder)  # fmt: skip
