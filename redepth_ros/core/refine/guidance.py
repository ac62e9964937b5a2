"""What a prior says of a shape: score distillation of a picture that is re-lit by it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from redepth_ros.core.relighting import draw_lighting
from redepth_ros.core.refine.networks import Prior
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.relighting import Lighting, relight
from redepth_ros.core.refine.sds import add_noise, guide, sds_gradient, sds_loss

__all__ = ["GRADIENT_SCALE", "Distillation", "Draws"]

GRADIENT_SCALE = 1024.0
"""Losses are multiplied by it, so that half precision does not lose their gradients in zeros.
AdamW's steps do not depend on it."""


class Draws(NamedTuple):
    """What is random in judging N re-lit pictures; on the CPU, so that a seed draws the same everywhere."""

    lighting: Lighting
    t: Tensor
    """Noise levels, (N,) integers into the prior's schedule."""
    noise: Tensor
    """(N, C, h, w) standard normal, which the latents are noised with."""
    sampling: Tensor | None
    """The same to sample the autoencoder with, None to take its mean."""
    mirrored: bool
    """Whether the prior sees all of them mirrored, left and right."""


class Distillation:
    """A prior that is asked about one picture."""

    def __init__(self, prior: Prior, picture: Tensor, prompt: str, settings: RefineSettings) -> None:
        """Args:
        prior: whom to ask.
        picture: (1, 3, H, W) sRGB in 0..1.
        prompt: what it shows.
        settings: of the refinement.
        """
        self._prior, self._picture, self._settings = prior, picture, settings
        self._conditions = [prior.condition(picture, prompt)]
        if settings.mirror:
            self._conditions.append(prior.condition(picture.flip(-1), prompt))
        self.chunk = settings.pictures_at_once or settings.members * settings.lights
        """Re-lit pictures that go through the prior at once; fewer once memory ran out."""

    def draw(self, count: int, generator: torch.Generator, progress: float) -> Draws:
        """Lights, noise levels and noise for so many re-lit pictures.

        Args:
            count: of the pictures.
            generator: on the CPU.
            progress: share of a member's steps that is done, 0..1: noise levels fall with it.
        """
        settings = self._settings
        lighting = draw_lighting(settings.lighting, count, generator)
        shape = (count, *self._prior.latent_shape(*self._picture.shape[-2:]))
        horizon = len(self._prior.alphas)
        fallen = progress * settings.t_fall
        low, high = (
            int((settings.t_low - fallen) * horizon),
            max(int((settings.t_high - fallen) * horizon), 1),
        )
        t = torch.randint(min(low, high - 1), high, (count,), generator=generator)
        noise = torch.randn(shape, generator=generator)
        sampling = torch.randn(shape, generator=generator) if settings.sample_latents else None
        mirrored = settings.mirror and bool(torch.rand((), generator=generator) < 0.5)
        return Draws(lighting, t, noise, sampling, mirrored)

    def gradient(self, normals: Tensor, view: Tensor, draws: Draws) -> tuple[Tensor, float]:
        """Gradient of the SDS loss by normals (M, 3, H, W), and the loss; each has N / M of the draws.

        What is not finite in it counts as 0; where nothing is finite, the loss is NaN.

        Args:
            normals: unit vectors.
            view: unit vectors to the camera, broadcastable to them.
            draws: N of them, those of one shape after those of the other.
        """
        shaded = normals.detach().repeat_interleave(len(draws.t) // len(normals), dim=0)
        shaded.requires_grad_()  # (N, 3, H, W)
        total = 0.0
        for share, latents, distilled in self._ask(shaded, view, draws):
            loss = sds_loss(latents, distilled) * share
            # Scaled on the way through the autoencoder, which may be in half precision.
            (GRADIENT_SCALE * loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        assert shaded.grad is not None
        if not bool(shaded.grad.isfinite().any()):
            total = math.nan  # the autoencoder's way back overflowed, as half precision may
        finite = torch.nan_to_num(shaded.grad, nan=0.0, posinf=0.0, neginf=0.0)
        return finite.reshape(len(normals), -1, *normals.shape[1:]).sum(1) / GRADIENT_SCALE, total

    @torch.no_grad()
    def loss(self, normals: Tensor, view: Tensor, draws: Draws) -> float:
        """The SDS loss of normals (1, 3, H, W) under all draws."""
        shaded = normals.expand(len(draws.t), -1, -1, -1)
        return sum(
            share * float(sds_loss(latents, distilled))
            for share, latents, distilled in self._ask(shaded, view, draws)
        )

    def _ask(self, shaded: Tensor, view: Tensor, draws: Draws) -> Iterator[tuple[float, Tensor, Tensor]]:
        """By chunks of re-lit pictures: their share, latents (b, C, h, w), and the SDS gradient there."""
        for part in torch.split(torch.arange(len(shaded)), self.chunk):
            lighting = _select(draws.lighting, part, shaded.device)
            relit = relight(self._picture, shaded[part.to(shaded.device)], view, lighting)  # (b, 3, H, W)
            if draws.mirrored:
                relit, lighting = relit.flip(-1), lighting.mirrored()
            latents = self._prior.encode(relit, None if draws.sampling is None else draws.sampling[part])
            condition = self._conditions[draws.mirrored]
            distilled = self._distil(latents.detach(), draws.t[part], draws.noise[part], condition, lighting)
            yield len(part) / len(shaded), latents, distilled

    @torch.no_grad()
    def _distil(self, latents: Tensor, t: Tensor, noise: Tensor, condition: Any, lights: Lighting) -> Tensor:
        """The SDS gradient at latents (b, C, h, w)."""
        scale, prior = self._settings.guidance_scale, self._prior
        t, noise = t.to(latents.device), noise.to(latents)
        noised = add_noise(latents, noise, prior.alphas[t, None, None, None].to(latents))
        predicted = prior.predict_noise(noised, t, condition, lights, True)
        if scale:
            without = prior.predict_noise(noised, t, condition, lights, False)
            predicted = guide(predicted, without, scale)
        if not bool(predicted.isfinite().any()):
            # A few NaN count as no gradient, as published; a network that gives nothing else is broken.
            return torch.full_like(latents, torch.nan)
        return sds_gradient(predicted, noise)


def _select(lighting: Lighting, part: Tensor, device: torch.device) -> Lighting:
    return Lighting(**{one.name: getattr(lighting, one.name)[part].to(device) for one in fields(Lighting)})
