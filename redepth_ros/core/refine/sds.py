"""Score distillation sampling (SDS) as pure functions.

Source: Poole et al., DreamFusion (2023); constants and conventions of Re-Depth Anything,
section 3.3. A signal x is what the diffusion model diffuses, usually latents (B, C, h, w).
"""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.errors import ConfigError

__all__ = ["add_noise", "guide", "noise_from_prediction", "sds_gradient", "sds_loss"]

PREDICTIONS = ("epsilon", "v_prediction", "sample")
"""Prediction types, by the names of diffusers' schedulers."""


def add_noise(signal: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Return the forward process, sqrt(alpha) x + sqrt(1 - alpha) noise.

    Args:
        signal, noise: (B, C, h, w).
        alpha: cumulative product of the schedule's alphas at t, (B, 1, 1, 1).
    """
    return alpha.sqrt() * signal + (1.0 - alpha).sqrt() * noise


def noise_from_prediction(prediction: Tensor, noised: Tensor, alpha: Tensor, kind: str) -> Tensor:
    """Convert the prediction of a denoiser to noise.

    Args:
        prediction: the denoiser's output for `noised`, (B, C, h, w).
        noised: its input.
        alpha: as in `add_noise`.
        kind: epsilon (the noise), v_prediction (Salimans and Ho, 2022), or sample (x itself).

    Raises:
        ConfigError: another kind.
    """
    if kind == "epsilon":
        return prediction
    if kind == "v_prediction":
        return alpha.sqrt() * prediction + (1.0 - alpha).sqrt() * noised
    if kind == "sample":
        return (noised - alpha.sqrt() * prediction) / (1.0 - alpha).sqrt()
    raise ConfigError(f"prediction type is {kind!r}; it must be one of: {', '.join(PREDICTIONS)}")


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Apply classifier-free guidance as the paper writes it: e_text + scale (e_text - e_empty).

    A scale of 0 gives the conditional prediction. It is one less than diffusers' guidance_scale.
    """
    return conditional + scale * (conditional - unconditional)


def sds_gradient(predicted: Tensor, noise: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Return the gradient weight (predicted - noise) with respect to the signal; 0 where not finite."""
    return torch.nan_to_num(weight * (predicted - noise), nan=0.0, posinf=0.0, neginf=0.0)


def sds_loss(signal: Tensor, gradient: Tensor) -> Tensor:
    """Return a scalar whose gradient is the given one, divided by the number of elements.

    0.5 mean (x - stop(x - gradient))^2, as published; its value is 0.5 mean gradient^2.
    """
    target = (signal - gradient).detach()
    return 0.5 * (signal - target).square().mean()
