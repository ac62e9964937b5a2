"""What refinement asks of a diffusion model."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from redepth_ros.core.relighting import Lighting

__all__ = ["Prior"]


class Prior(Protocol):
    """A diffusion model that judges re-lit pictures.

    Pictures are (B, 3, H, W) sRGB in 0..1, on the prior's device. `condition` is whatever
    `condition` returned; nobody else looks into it.
    """

    alphas: Tensor
    """Cumulative products of the noise schedule's alphas, by t: (T,)."""

    knows_light: bool
    """Whether it sees the picture and is told the light. What it predicts is then the re-lit picture itself,
    and its loss says how wrong the shape is; another prior's loss is mostly noise."""

    def condition(self, picture: Tensor, prompt: str) -> Any:
        """What can be known once for a picture (1, 3, H, W): its latents, its prompt's tokens."""

    def remark(self, prompt: str) -> str:
        """What people should know of how it takes a prompt: that its end, or none of it, is read."""

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, rows and columns of the latents of a picture of this size."""

    def encode(self, pictures: Tensor, noise: Tensor | None) -> Tensor:
        """Latents (B, C, h, w), differentiable.

        Args:
            pictures: re-lit ones.
            noise: standard normal, of the latents' shape, to sample the autoencoder's
                distribution with; None takes its mean.
        """

    def predict_noise(
        self, noised: Tensor, t: Tensor, condition: Any, lighting: Lighting, conditional: bool
    ) -> Tensor:
        """The noise that the model sees in noised latents, (B, C, h, w).

        Args:
            noised: (B, C, h, w).
            t: (B,) integers into `alphas`.
            condition: of the picture.
            lighting: the B lights, for a model that is told them.
            conditional: False leaves all conditions out, for classifier-free guidance.
        """
