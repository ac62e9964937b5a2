"""What refinement requires of a depth network and of a diffusion prior."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from redepth_ros.core.camera import Camera, PinholeCamera
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.relighting import Lighting

__all__ = ["DepthNetwork", "Embeddings", "Prior", "ScaledNetwork", "known_scale"]


@dataclass(frozen=True)
class Embeddings:
    """Intermediate features of an encoder: tokens of a transformer, or feature maps.

    In Re-Depth Anything the `features`, E in the paper, are the free variables of the refinement.
    """

    features: tuple[Tensor, ...]
    """Tensors (B, ...) that are optimised, for example patch tokens (B, rows * columns, C)."""
    constants: tuple[Tensor, ...] = ()
    """Tensors (B, ...) that stay as they are, for example class tokens (B, 1, C)."""
    grid: tuple[int, int] = (0, 0)
    """Rows and columns of patches, if the decoder needs them."""

    def tokens(self) -> list[Tensor]:
        """Return class and patch tokens of each layer in float32, as a DPT decoder takes them.

        Their shape is (B, 1 + rows * columns, C); the class token comes first.
        """
        return [
            torch.cat((token.float(), patches.float()), dim=1)
            for token, patches in zip(self.constants, self.features, strict=True)
        ]


class DepthNetwork(Protocol):
    """A depth network whose encoder and decoder run separately; see `models.depth_anything`."""

    @property
    def metric(self) -> bool:
        """Whether it predicts depth in metres; otherwise disparity without a unit, larger when nearer."""

    def encode(self, pixels: Tensor) -> Embeddings:
        """Return the frozen encoder's embeddings of pixels (B, 3, h, w)."""

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return the float32 prediction (B, h, w) of embeddings, differentiable."""

    def image(self, pixels: Tensor) -> Tensor:
        """Return the image that normalised pixels show: (B, 3, h, w) sRGB in [0, 1]."""

    def fork(self) -> DepthNetwork:
        """Return the same network with a decoder of its own."""

    def decoder_parameters(self) -> list[torch.nn.Parameter]:
        """Return the decoder's weights."""


@runtime_checkable
class ScaledNetwork(Protocol):
    """A network of disparity that may know the scale of its output itself; optional for a `DepthNetwork`."""

    def known_scale(self, embeddings: Embeddings, camera: PinholeCamera | None) -> Scale | None:
        """Return the scale of the disparity; None if it knows none.

        Args:
            embeddings: of the image.
            camera: of the network's input; None if it is unknown.
        """


def known_scale(network: DepthNetwork, embeddings: Embeddings, camera: Camera) -> Scale | None:
    """Return the scale of a network's output that it knows itself; None for most networks."""
    if not isinstance(network, ScaledNetwork):
        return None
    return network.known_scale(embeddings, camera if isinstance(camera, PinholeCamera) else None)


class Prior(Protocol):
    """A diffusion model that judges re-lit images.

    Images are (B, 3, H, W) sRGB in [0, 1], on the prior's device. `condition` returns an opaque object
    that `predict_noise` takes back.
    """

    alphas: Tensor
    """Cumulative products of the noise schedule's alphas, by t: (T,)."""

    light_conditioned: bool
    """Whether it sees the input image, is told the light and predicts the re-lit image itself. Its loss then
    measures the error of the shape; the loss of another prior is mostly noise."""

    def condition(self, image: Tensor, prompt: str) -> Any:
        """Compute once what depends on the image (1, 3, H, W) and the prompt only."""

    def prompt_warning(self, prompt: str) -> str:
        """Return a note for the user where the prompt is ignored or cut off; otherwise empty."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Return channels, rows and columns of the latents of an image of this size."""

    def encode(self, images: Tensor, noise: Tensor | None) -> Tensor:
        """Return latents (B, C, h, w), differentiable.

        Args:
            images: re-lit images.
            noise: standard normal, of the latents' shape, to sample the autoencoder's
                distribution; None takes its mean.
        """

    def predict_noise(
        self, noised: Tensor, t: Tensor, condition: Any, lighting: Lighting, conditional: Tensor | bool
    ) -> Tensor:
        """Return the noise predicted for noised latents, (B, C, h, w).

        Args:
            noised: (B, C, h, w).
            t: (B,) integers, indices of `alphas`.
            condition: of the image.
            lighting: the B lights, used by a light-conditioned prior.
            conditional: (B,) booleans, or one for all; False leaves out all conditions, for classifier-free
                guidance.
        """
