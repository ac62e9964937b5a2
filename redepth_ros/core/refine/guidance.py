"""SDS guidance: the gradient of score distillation with respect to the normals of one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from redepth_ros.core.refine.losses import LOSS_SCALE
from redepth_ros.core.refine.networks import Prior
from redepth_ros.core.refine.sds import add_noise, guide, sds_gradient, sds_loss
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.relighting import Lighting, relight, sample_lighting

__all__ = ["Interrupted", "SdsGuidance", "SdsSamples"]


class Interrupted(Exception):  # noqa: N818
    """A stop was requested between two batches of re-lit images."""


@dataclass(frozen=True)
class SdsSamples:
    """Random numbers for N re-lit images; on the CPU, so that a seed gives the same ones everywhere."""

    lighting: Lighting
    t: Tensor
    """Noise levels, (N,) indices of the prior's schedule."""
    noise: Tensor
    """(N, C, h, w) standard normal, added to the latents."""
    vae_noise: Tensor | None
    """(N, C, h, w) standard normal to sample the autoencoder; None takes its mean."""
    mirrored: bool
    """Whether the prior sees all of them mirrored horizontally."""


class SdsGuidance:
    """A diffusion prior applied to one image."""

    def __init__(
        self,
        prior: Prior,
        image: Tensor,
        prompt: str,
        settings: RefineSettings,
        is_interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        """Args:
        prior: the diffusion model.
        image: (1, 3, H, W) sRGB in [0, 1].
        prompt: describes the image.
        settings: of the refinement.
        is_interrupted: asked before each batch of re-lit images of `gradient`; a batch of a large prior
            takes minutes on a CPU.
        """
        self._is_interrupted = is_interrupted
        self._prior, self._image, self._settings = prior, image, settings
        self._conditions = [prior.condition(image, prompt)]
        if settings.mirror_augmentation:
            self._conditions.append(prior.condition(image.flip(-1), prompt))
        self.batch_size = settings.relit_batch_size or settings.ensemble_size * settings.lights_per_step
        """Re-lit images that pass the prior at once; halved when memory runs out."""

    def sample(self, count: int, generator: torch.Generator, progress: float) -> SdsSamples:
        """Sample lights, noise levels and noise.

        Args:
            count: number of re-lit images N.
            generator: on the CPU.
            progress: share of a member's steps that is done, in [0, 1]; noise levels fall with it.
        """
        settings = self._settings
        lighting = sample_lighting(settings.light_style, count, generator)
        shape = (count, *self._prior.latent_shape(*self._image.shape[-2:]))
        levels, annealed = len(self._prior.alphas), progress * settings.t_anneal
        low, high = (min(int((t - annealed) * levels), levels - 1) for t in (settings.t_min, settings.t_max))
        t = torch.randint(low, high + 1, (count,), generator=generator)  # both ends are drawn, as published
        noise = torch.randn(shape, generator=generator)
        vae_noise = torch.randn(shape, generator=generator) if settings.sample_latents else None
        mirrored = settings.mirror_augmentation and bool(torch.rand((), generator=generator) < 0.5)
        return SdsSamples(lighting, t, noise, vae_noise, mirrored)

    def gradient(self, normals: Tensor, view: Tensor, samples: SdsSamples) -> tuple[Tensor, float]:
        """Return the gradient of the SDS loss with respect to the normals, and the loss.

        Elements that are not finite become 0; if no element is finite, the loss is NaN.

        Args:
            normals: (M, 3, H, W) unit vectors.
            view: unit vectors to the camera, broadcastable to the normals.
            samples: N of them; each shape is lit by N / M consecutive ones.

        Returns:
            (M, 3, H, W) and the mean loss.

        Raises:
            Interrupted: a stop was requested.
        """
        shaded = normals.detach().repeat_interleave(len(samples.t) // len(normals), dim=0)
        shaded.requires_grad_()  # (N, 3, H, W)
        total = 0.0
        for share, latents, score in self._distill(shaded, view, samples, self._is_interrupted):
            loss = sds_loss(latents, score) * share
            # Scaled on the way through the autoencoder, which may be in half precision.
            (LOSS_SCALE * loss).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        assert shaded.grad is not None
        if not bool(shaded.grad.isfinite().any()):
            total = math.nan  # the autoencoder's gradient overflowed, as half precision may
        finite = torch.nan_to_num(shaded.grad, nan=0.0, posinf=0.0, neginf=0.0)
        per_shape = finite.reshape(len(normals), -1, *normals.shape[1:]).sum(1)  # (M, 3, H, W)
        return per_shape / LOSS_SCALE, total

    @torch.no_grad()
    def loss(self, normals: Tensor, view: Tensor, samples: SdsSamples) -> float:
        """Return the SDS loss of one shape's normals (1, 3, H, W), lit by all samples.

        It is not interrupted: checks of a result need it, whatever ended the run.
        """
        shaded = normals.expand(len(samples.t), -1, -1, -1)
        return sum(
            share * float(sds_loss(latents, score))
            for share, latents, score in self._distill(shaded, view, samples, lambda: False)
        )

    def _distill(
        self, shaded: Tensor, view: Tensor, samples: SdsSamples, is_interrupted: Callable[[], bool]
    ) -> Iterator[tuple[float, Tensor, Tensor]]:
        """Yield, batch by batch: its share of the N images, latents (b, C, h, w), and their SDS gradient."""
        for part in torch.split(torch.arange(len(shaded)), self.batch_size):
            if is_interrupted():
                raise Interrupted
            lighting = samples.lighting.select(part, shaded.device)
            relit = relight(self._image, shaded[part.to(shaded.device)], view, lighting)  # (b, 3, H, W)
            if samples.mirrored:
                relit, lighting = relit.flip(-1), lighting.mirrored()
            vae_noise = None if samples.vae_noise is None else samples.vae_noise[part]
            latents = self._prior.encode(relit, vae_noise)  # (b, C, h, w)
            condition = self._conditions[samples.mirrored]
            score = self._score(latents.detach(), samples.t[part], samples.noise[part], condition, lighting)
            yield len(part) / len(shaded), latents, score

    @torch.no_grad()
    def _score(self, latents: Tensor, t: Tensor, noise: Tensor, condition: Any, lights: Lighting) -> Tensor:
        """Return the SDS gradient at latents (b, C, h, w)."""
        scale, prior = self._settings.guidance_scale, self._prior
        t, noise = t.to(latents.device), noise.to(latents)
        noised = add_noise(latents, noise, prior.alphas[t, None, None, None].to(latents))
        if scale:
            both = torch.arange(len(t), device=latents.device).repeat(2)  # (2b,): with and without conditions
            conditional = torch.arange(len(both), device=latents.device) < len(t)
            lights = lights.select(both, latents.device)
            predicted = prior.predict_noise(noised[both], t[both], condition, lights, conditional)
            predicted = guide(predicted[: len(t)], predicted[len(t) :], scale)
        else:
            predicted = prior.predict_noise(noised, t, condition, lights, True)
        if not bool(predicted.isfinite().any()):
            # Single NaN elements have no gradient, as published; a network that gives only NaN is broken.
            return torch.full_like(latents, torch.nan)
        return sds_gradient(predicted, noise)
