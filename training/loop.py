"""Parts that the training scripts share: scenes, learning rate, loss, and the network and its file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from transformers import (
    DepthAnythingConfig,
    DepthAnythingForDepthEstimation,
    Dinov2Config,
    DPTImageProcessor,
)

from redepth_ros.models.preprocessing import IMAGENET_MEAN, IMAGENET_STDDEV

__all__ = [
    "RunningMean",
    "build_depth_network",
    "cosine_decay",
    "depth_loss",
    "log_depth_loss",
    "moving_average",
    "normalize_affine",
    "normalize_image",
    "optimizer_step",
    "render_scenes",
    "save_depth_network",
]

SPREAD = 0.4
"""Mean absolute deviation of a typical disparity whose mean is 1."""


def render_scenes(
    name: str, render: Callable[[int], tuple[NDArray, NDArray]], first: int, count: int, work: Path
) -> tuple[Tensor, Tensor]:
    """Render consecutive seeds on all cores, or read them back from the folder `work`."""
    path = work / f"{name}-{first}-{count}.npz"
    if not path.exists():
        seeds = range(first, first + count)
        with get_context("spawn").Pool() as pool:
            rendered = list(track(pool.imap(render, seeds, chunksize=8), name, total=count))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(path, *(np.stack(part) for part in zip(*rendered, strict=True)))
    with np.load(path) as stored:
        return torch.from_numpy(stored["arr_0"]), torch.from_numpy(stored["arr_1"])


def cosine_decay(
    optimizer: torch.optim.Optimizer, cycles: Sequence[int], warm_up: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """Return a schedule of cycles of so many steps: each rises for `warm_up` steps, then falls along a cosine
    to a thousandth (I. Loshchilov and F. Hutter, SGDR, arXiv 1608.03983)."""

    def factor(step: int) -> float:
        for steps in cycles:
            if step < steps:
                break
            step -= steps
        decay = 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps))
        return min(1.0, (step + 1) / warm_up) * decay + 1e-3

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def moving_average(network: nn.Module) -> torch.optim.swa_utils.AveragedModel:
    """Return an exponential moving average of a network's weights."""
    return torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998)
    )


def optimizer_step(
    loss: Tensor,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
) -> None:
    """Backpropagate a loss, clip the gradient's norm to 1 and update the weights."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    scheduler.step()


class RunningMean:
    """An exponential moving average of the loss, for progress messages."""

    def __init__(self) -> None:
        self.value = math.nan

    def add(self, value: float) -> None:
        """Update the mean; the first value starts it."""
        self.value = value if math.isnan(self.value) else self.value + 0.01 * (value - self.value)


def depth_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean absolute error of disparities (B, h, w) plus that of their gradients at four scales.

    Pixels whose target is NaN do not count.
    """
    valid = target.isfinite().float().unsqueeze(1)  # (B, 1, h, w)
    error = (predicted - target.nan_to_num()).unsqueeze(1) * valid  # (B, 1, h, w)
    loss = error.abs().sum() / valid.sum().clamp_min(1.0)
    for _ in range(4):
        for dim in (-1, -2):
            size = error.shape[dim] - 1
            both = valid.narrow(dim, 0, size) * valid.narrow(dim, 1, size)
            loss = loss + 0.5 * (error.diff(dim=dim).abs() * both).sum() / both.sum().clamp_min(1.0)
        share = avg_pool2d(valid, 2)
        error = avg_pool2d(error, 2) / share.clamp_min(0.25)
        valid = (share > 0.5).float()
        error = error * valid
    return loss


def log_depth_loss(predicted: Tensor, target: Tensor, floor: float = 0.05) -> Tensor:
    """Return the mean absolute error of log depth, after an alignment of disparities (B, h, w) to the target.

    The alignment is that of `redepth_ros.core.metrics.align_depth`: scale and shift by least squares.

    Args:
        predicted: disparity.
        target: disparity whose mean over the image is 1; pixels that are NaN do not count.
        floor: disparity below which the logarithm goes on as its tangent.
    """
    valid = target.isfinite()
    count = valid.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    truth = target.nan_to_num()
    centre = (predicted * valid).sum(dim=(1, 2), keepdim=True) / count
    mean = (truth * valid).sum(dim=(1, 2), keepdim=True) / count
    centred = (predicted - centre) * valid
    variance = centred.square().sum(dim=(1, 2), keepdim=True) / count
    covariance = (centred * (truth - mean)).sum(dim=(1, 2), keepdim=True) / count
    aligned = covariance.clamp_min(0.0) / variance.clamp_min(1e-4) * centred + mean  # (B, h, w)
    below = (aligned - floor).clamp_max(0.0) / floor
    error = aligned.clamp_min(floor).log() + below - truth.clamp_min(floor).log()
    return (error.abs() * valid).sum() / valid.sum().clamp_min(1)


def normalize_affine(disparity: Tensor, valid: Tensor) -> Tensor:
    """Shift and scale disparities (B, h, w) to the mean 0 and a mean absolute deviation of `SPREAD`.

    Args:
        disparity: to normalise.
        valid: (B, h, w) bool, pixels that count.
    """
    count = valid.sum(dim=(1, 2), keepdim=True).clamp_min(1)
    known = disparity.nan_to_num()
    centred = known - (known * valid).sum(dim=(1, 2), keepdim=True) / count
    spread = (centred.abs() * valid).sum(dim=(1, 2), keepdim=True) / count
    return SPREAD * centred / spread.clamp_min(1e-3)


def normalize_image(image: Tensor) -> Tensor:
    """Normalise an image (B, 3, h, w) in [0, 1] by ImageNet's statistics, as the package does."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STDDEV))
    return (image - mean) / deviation


def build_depth_network(
    side: int, patch: int, channels: int, taps: list[int], **decoder: int | list[int]
) -> DepthAnythingForDepthEstimation:
    """Build a Depth Anything V2 network with transformers' random weights.

    Args:
        side: of the square, in pixels, whose patches have a position embedding of their own.
        patch: side of a patch, in pixels.
        channels: of the encoder.
        taps: layers whose features the decoder takes, the patches being 0; the last one ends the encoder.
        decoder: other values of `DepthAnythingConfig`.
    """
    backbone = Dinov2Config(
        hidden_size=channels,
        num_hidden_layers=taps[-1],
        num_attention_heads=4,
        image_size=side,
        patch_size=patch,
        out_indices=taps,
        apply_layernorm=True,
        reshape_hidden_states=False,
        use_mask_token=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=channels,
        head_in_index=-1,
        **decoder,
    )
    return DepthAnythingForDepthEstimation(config)


def save_depth_network(network: DepthAnythingForDepthEstimation, side: int, folder: Path) -> None:
    """Write a network in half precision, in the folder layout of a hub model.

    Args:
        network: to save.
        side: longer side of the network's input, in pixels.
        folder: to write into.
    """
    network.to(torch.float16).save_pretrained(folder)
    DPTImageProcessor(
        size={"height": side, "width": side},
        keep_aspect_ratio=True,
        ensure_multiple_of=network.config.patch_size,
        image_mean=list(IMAGENET_MEAN),
        image_std=list(IMAGENET_STDDEV),
    ).save_pretrained(folder)
