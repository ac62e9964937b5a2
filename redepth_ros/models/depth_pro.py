"""Depth Pro of transformers: metric depth by the calibration, or by a field of view that it estimates."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ImageError, ModelError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.models.depth_anything import DepthAnything

__all__ = ["DepthPro"]

FIELD_OF_VIEW = (1.0, 179.0)
"""Degrees between which an estimated field of view is used."""


class DepthPro(DepthAnything):
    """A Depth Pro network, which predicts canonical inverse depth: W times the inverse depth, by f_x.

    The network sees a square, into which the image is stretched. The square stays inside of `encode` and
    `decode`: pixels and disparity have the aspect ratio of the image, so that normals and re-lit images are
    not stretched. For pixels of S x S, `decode(encode(pixels))` is transformers' forward pass. For others, it
    contains what transformers' processor does before and after.
    """

    model_type = "depth_pro"
    default_longer_side = 1536
    default_mean = default_stddev = (0.5, 0.5, 0.5)
    encoder_name = "depth_pro.encoder"
    decoder_names = ("depth_pro.neck", "fusion_stage", "head")
    exportable = False

    def __init__(self, network: Any, name: str, **options: Any) -> None:
        super().__init__(network, name, **options)
        config = network.config
        side = round(config.patch_size / min(config.scaled_images_ratios))
        if self.longer_side != side:
            raise ModelError(
                f"model {name!r} has an input of {self.longer_side} pixels in preprocessor_config.json, and "
                f"of {side} pixels in config.json; they must be equal: download it again"
            )

    @property
    def patch(self) -> int:
        """1: the input is stretched to the network's square, so that its sides may have any size."""
        return 1

    @property
    def metric(self) -> bool:
        return False

    @property
    def scale_source(self) -> Literal["calibration", "image"]:  # type: ignore[override]
        return "calibration" if self.network.fov_model is None else "image"

    def network_size(self, height: int, width: int, input_size: int = 0) -> tuple[int, int]:
        """Return height and width of the pixels: those of the image, unless it is larger than the square.

        Args:
            height, width: of the image, in pixels; at least 2.
            input_size: longer side of the pixels; 0 takes that of the image, up to that of the square.
        """
        if min(height, width) < 2:
            raise ImageError(f"image of {width}x{height} pixels; both sides must be at least 2")
        return super().network_size(height, width, input_size or min(max(height, width), self.longer_side))

    def encode(self, pixels: Tensor) -> Embeddings:
        """Return the embeddings of normalised pixels (B, 3, h, w), which are stretched to the square.

        The constants are the field of view in degrees, (B, 1), if the network estimates it, and the class
        token (B, 1, C) of the whole image.
        """
        side = (self.longer_side, self.longer_side)
        square = interpolate(pixels, side, mode="bilinear")  # (B, 3, S, S)
        encoded = self.network.depth_pro.encoder(square)
        constants: tuple[Tensor, ...] = (encoded.last_hidden_state[:, :1],)
        if self.network.fov_model is not None:
            constants = (self._field_of_view(square, encoded.features), *constants)
        height, width = pixels.shape[-2:]
        return Embeddings(tuple(encoded.features), constants, (height, width))

    def _field_of_view(self, square: Tensor, features: list[Tensor]) -> Tensor:
        """Return the horizontal field of view in degrees, (B, 1)."""
        neck = self.network.depth_pro.neck
        upsample, (of_image, of_patches) = neck.feature_upsample, (one.float() for one in features[:2])
        joined = torch.cat((upsample.scaled_images[0](of_patches), upsample.image_block(of_image)), dim=1)
        coarse = neck.feature_projection.projections[0](neck.fuse_image_with_low_res(joined))
        degrees: Tensor = self.network.fov_model(square, coarse.to(square.dtype))  # (B,)
        return degrees[:, None]

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return the canonical inverse depth, at least 0: (B, h, w) float32."""
        neck, fusion, head = (self.network.get_submodule(name) for name in self.decoder_names)
        disparity = head(fusion(neck([one.float() for one in embeddings.features]))[-1])  # (B, S, S)
        resized: Tensor = interpolate(disparity[:, None], embeddings.grid, mode="bilinear")[:, 0]
        return resized

    def known_scale(self, embeddings: Embeddings, camera: PinholeCamera | None) -> Scale | None:
        """Return f_x / W, by the calibration or else by the field of view that the network estimates."""
        if camera is not None:
            return Scale(camera.fx / camera.width)
        if self.network.fov_model is None:
            return None
        degrees = float(embeddings.constants[0].flatten()[0])
        low, high = FIELD_OF_VIEW
        return Scale(0.5 / math.tan(math.radians(0.5 * degrees))) if low < degrees < high else None

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return disparity (1, h, w), class token (C,), and the field of view (1, 1) if it is estimated."""
        embeddings = self.encode(pixels)
        *field_of_view, class_token = embeddings.constants
        return self.decode(embeddings), class_token[0, 0], *field_of_view
