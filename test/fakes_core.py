"""Small deterministic stand-ins for the depth network and the prior: pure torch, nothing to load."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import avg_pool2d, pixel_shuffle, pixel_unshuffle, softplus

from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.core.relighting import Lighting, relight

OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 1.00 GiB"


class Clock:
    """A clock that only `sleep` moves."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@dataclass(frozen=True)
class Scene:
    """A bump with a soft texture, and the pixels that the fake network takes."""

    pixels: torch.Tensor
    """(1, 3, S, S) sRGB in [0, 1]."""
    depth: torch.Tensor
    """(S, S) true depth, half image heights."""
    normals: torch.Tensor
    """(3, S, S) of the true depth."""


def bump_scene(side: int = 16) -> Scene:
    """Return a bump left of the centre, lit from the upper left."""
    line = torch.linspace(-1.0, 1.0, side)
    x, y = line.expand(side, side), line[:, None].expand(side, side)
    depth = 1.6 - 0.35 * torch.exp(-3.0 * ((x + 0.3) ** 2 + y**2))
    normals = OrthographicCamera().normals(depth)
    light = torch.tensor([-0.5, -0.5, -0.7])[:, None, None]
    shading = 0.3 + 0.7 * (normals * light).sum(0).clamp_min(0.0)
    texture = torch.stack((0.7 + 0.2 * torch.sin(3.0 * x), 0.6 + 0.2 * torch.cos(4.0 * y), 0.6 + 0.1 * x * y))
    return Scene((texture * shading)[None].contiguous(), depth, normals)


class FakeDepthNetwork:
    """A depth network of 32 weights: brighter pixels are nearer.

    Its embeddings are the grey values and the colours of patches of 4x4 pixels.
    """

    patch = 4

    def __init__(self, *, metric: bool = False, gain: float = 1.0, bias: float = 4.0) -> None:
        self.metric = metric
        self.weights = torch.nn.ParameterDict(
            {"gain": torch.full((1, 16, 1, 1), gain), "bias": torch.full((1, 16, 1, 1), bias)}
        ).requires_grad_(False)
        self.forks = 0

    def encode(self, pixels: torch.Tensor) -> Embeddings:
        """Return grey values (B, N, 16) and colours (B, N, 3), and their means as class tokens."""
        grey = pixel_unshuffle(pixels.mean(1, keepdim=True), self.patch)
        colors = avg_pool2d(pixels, self.patch)
        features = tuple(stage.flatten(2).mT for stage in (grey, colors))  # (B, N, C) each
        class_tokens = tuple(one.mean(1, keepdim=True) for one in features)
        return Embeddings(features, class_tokens, (grey.shape[2], grey.shape[3]))

    def decode(self, embeddings: Embeddings) -> torch.Tensor:
        """Return positive disparity, or a tenth of it as metres: (B, h, w)."""
        grey, colors = (
            one.mT.unflatten(2, embeddings.grid) for one in embeddings.features
        )  # (B, C, rows, columns)
        output = self.weights["gain"] * grey + self.weights["bias"] + 0.1 * colors.mean(1, keepdim=True)
        disparity = softplus(pixel_shuffle(output, self.patch))[:, 0]
        return 0.1 * disparity if self.metric else disparity

    def image(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the pixels, which are the image."""
        return pixels

    def fork(self) -> FakeDepthNetwork:
        """Return a copy with weights of its own."""
        self.forks += 1
        return copy.deepcopy(self)

    def decoder_parameters(self) -> list[torch.nn.Parameter]:
        """Return gain and bias."""
        return list(self.weights.parameters())


class Condition(NamedTuple):
    """What the fake prior remembers of an image."""

    image: torch.Tensor
    normals: torch.Tensor
    prompt: str
    mirrored: bool


class Call(NamedTuple):
    """Arguments of one `predict_noise`."""

    t: torch.Tensor
    condition: Condition
    lighting: Lighting
    conditional: list[bool]
    """Of each image."""


class FakePrior:
    """A prior that knows the true normals: it predicts the noise that leaves the truly re-lit image.

    The first image it is conditioned on is the scene; others are its mirror image.
    """

    vae_stddev = 0.25

    def __init__(
        self, normals: torch.Tensor, *, light_conditioned: bool = True, max_images: int | None = None
    ) -> None:
        """Args:
        normals: (3, H, W), of the truth.
        max_images: number of images whose encoding fits into memory; None has no limit.
        """
        self.alphas = torch.linspace(0.999, 0.001, 1000)
        self.light_conditioned, self.max_images = light_conditioned, max_images
        self._normals = normals
        self._first: torch.Tensor | None = None
        self.calls: list[Call] = []
        self.encoded: list[int] = []
        """Number of images of each call of `encode` from outside."""
        self.vae_noise: list[torch.Tensor | None] = []

    def condition(self, image: torch.Tensor, prompt: str) -> Condition:
        """Remember the image; flip the normals with it."""
        if self._first is None:
            self._first = image
        mirrored = not torch.equal(image, self._first)
        normals = self._normals
        if mirrored:
            normals = normals.flip(-1) * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        return Condition(image, normals, prompt, mirrored)

    def prompt_warning(self, prompt: str) -> str:
        """Return a note for any prompt."""
        return "the prior ignores the prompt" if prompt else ""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return the shape of latents at half of the image's size."""
        return 3, height // 2, width // 2

    def encode(self, images: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Return averages of 2x2 pixels in [-1, 1], with noise of `vae_stddev`."""
        if self.max_images is not None and len(images) > self.max_images:
            raise torch.OutOfMemoryError(OUT_OF_MEMORY)
        self.encoded.append(len(images))
        self.vae_noise.append(noise)
        latents = self._latents(images)
        return latents if noise is None else latents + self.vae_stddev * noise

    def predict_noise(
        self,
        noised: torch.Tensor,
        t: torch.Tensor,
        condition: Condition,
        lighting: Lighting,
        conditional: torch.Tensor | bool,
    ) -> torch.Tensor:
        """Return the noise between the noised latents and those of the true image, lit or as it is."""
        given = torch.as_tensor(conditional).expand(len(noised))
        self.calls.append(Call(t, condition, lighting, given.tolist()))
        truth = condition.image.expand(len(noised), -1, -1, -1)
        relit = relight(truth, condition.normals[None], OrthographicCamera().view(), lighting)
        truth = torch.where(given[:, None, None, None], relit, truth)
        alpha = self.alphas[t, None, None, None]
        return (noised - alpha.sqrt() * self._latents(truth)) / (1.0 - alpha).sqrt()

    @staticmethod
    def _latents(images: torch.Tensor) -> torch.Tensor:
        return avg_pool2d(2.0 * images - 1.0, 2)
