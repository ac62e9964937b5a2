"""DPT of transformers with a DINOv2 backbone: metric depth of facebook/dpt-dinov2-*-nyu and -kitti."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.models.depth_anything import DepthAnything

__all__ = ["Dpt"]

MIN_DEPTH = 1e-3
"""Metres: the least depth of DINOv2's own heads, whose last layer may return 0."""


class Dpt(DepthAnything):
    """A DPT network with a DINOv2 backbone, which predicts depth in metres.

    Before it is resized to the input's size, `decode(encode(pixels))` is transformers' forward pass.
    """

    model_type = "dpt"
    default_longer_side = 640
    """That of NYU Depth V2; the processors of these networks take an image as it is."""

    @classmethod
    def check_config(cls, name: str, config: dict[str, Any]) -> None:
        """Raise ModelError for a DPT network with another backbone."""
        super().check_config(name, config)
        backbone = config.get("backbone_config")
        kind = backbone.get("model_type") if isinstance(backbone, dict) else None
        if kind != "dinov2":
            raise ModelError(
                f"model {name!r} is a DPT network with the backbone {kind!r}; it must be 'dinov2', as in "
                "facebook/dpt-dinov2-small-nyu; or choose Depth Anything V2"
            )

    @property
    def patch(self) -> int:
        return int(self.network.config.backbone_config.patch_size)

    @property
    def metric(self) -> bool:
        return True

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return depth in metres: (B, h, w) float32."""
        rows, columns = embeddings.grid
        depth = self.network.head(self.network.neck(embeddings.tokens(), rows, columns))  # (B, 16 r, 16 c)
        size = (rows * self.patch, columns * self.patch)
        resized: Tensor = interpolate(depth[:, None], size, mode="bilinear")[:, 0]
        return resized.clamp_min(MIN_DEPTH)
