"""Depth Anything 3 for single images: DA3MONO-LARGE and DA3METRIC-LARGE.

Their encoder is a plain DINOv2 and their decoder the DPT of Depth Anything V2 with an exponential at its end
and a second branch for the sky. So the published weights are renamed and loaded into the modules of
transformers, which has no Depth Anything 3; the authors' package is not needed. A test compares the result
with values that the authors' code computes for given weights.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ModelError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.files import find_weights, names_in, read_json
from redepth_ros.models.hub import first_line, loading

__all__ = ["DepthAnything3"]

METRIC_NAME = "da3metric-large"
NAMES = ("da3mono-large", METRIC_NAME)
CANONICAL_FOCAL = 300.0
"""Pixels: focal length of the camera for which the output of DA3METRIC is in metres."""
OUT_LAYERS = (4, 11, 17, 23)
"""Blocks whose tokens are decoded, counted from 0, unless config.json lists others."""
HEAD_SIZE = 64
"""Channels of an attention head of every DINOv2."""
MIN_SKY = 0.3
"""Output of the sky branch from which a pixel is sky."""
MIN_PIXELS = 10
"""With fewer pixels that are no sky, the branch is ignored, as by the authors."""
POSITION_OFFSET = 0.1
"""Added to rows and columns when position embeddings are resized, as by DINOv2's authors."""

RENAMED = (
    (r"backbone\.pretrained\.(cls_token)", r"backbone.embeddings.\1"),
    (r"backbone\.pretrained\.(mask_token)", r"backbone.embeddings.\1"),
    (r"backbone\.pretrained\.pos_embed", "backbone.embeddings.position_embeddings"),
    (r"backbone\.pretrained\.patch_embed\.proj\.", "backbone.embeddings.patch_embeddings.projection."),
    (r"backbone\.pretrained\.norm\.", "backbone.layernorm."),
    (r"backbone\.pretrained\.blocks\.(\d+)\.attn\.proj\.", r"backbone.encoder.layer.\1.attention.o_proj."),
    (
        r"backbone\.pretrained\.blocks\.(\d+)\.ls([12])\.gamma",
        r"backbone.encoder.layer.\1.layer_scale\2.lambda1",
    ),
    (r"backbone\.pretrained\.blocks\.(\d+)\.", r"backbone.encoder.layer.\1."),
    (r"head\.projects\.(\d)\.", r"neck.reassemble_stage.layers.\1.projection."),
    (r"head\.resize_layers\.(\d)\.", r"neck.reassemble_stage.layers.\1.resize."),
    (r"head\.scratch\.output_conv1\.", "head.conv1."),
    (r"head\.scratch\.output_conv2\.0\.", "head.conv2."),
    (r"head\.scratch\.output_conv2\.2\.", "head.conv3."),
    (r"head\.scratch\.sky_output_conv2\.", "head.sky."),
)
"""Names of the authors and of transformers; the first that fits applies."""


class DepthAnything3(DepthAnything):
    """Depth Anything 3 for single images.

    `decode` returns the inverse of the depth that the authors' network predicts. So s / D is the published
    parametrization depth * s. DA3METRIC knows its scale where the camera is calibrated.
    """

    model_type = "depth_anything_3"
    default_longer_side = 504

    @classmethod
    def check_config(cls, name: str, config: dict[str, Any]) -> None:
        """Raise ModelError unless a config.json is that of a network for single images."""
        if config.get("model_name") not in NAMES:
            raise ModelError(
                f"model {name!r} has the model_name {config.get('model_name')!r}; the networks of Depth "
                f"Anything 3 that predict depth of one image are: {', '.join(NAMES)}"
            )

    @classmethod
    @loading()
    def load_network(cls, name: str, folder: Path, dtype: torch.dtype) -> Any:
        """Load the published weights of a folder."""
        from safetensors.torch import load_file

        found = find_weights(names_in(folder), "model")
        assert found is not None  # find_folder has checked it
        try:
            weights: dict[str, Tensor] = {}
            for file in found[1]:
                weights |= load_file(folder / file) if file.endswith(".safetensors") else {}
            config = read_json(name, folder / "config.json")
            network = _make_network(_rename(weights), _out_layers(config))
            network.config.model_name = config["model_name"]
        except Exception as error:  # safetensors and torch raise errors of their own
            raise ModelError(
                f"model {name!r} can't be loaded: {first_line(error)}. Its model.safetensors must be "
                "complete and fit its config.json; download it again"
            ) from error
        network.backbone.to(dtype)  # the decoder computes in float32 anyhow
        return network

    @property
    def metric(self) -> bool:
        return False

    @property
    def scale_source(self) -> Literal["", "calibration"]:  # type: ignore[override]
        return "calibration" if self.network.config.model_name == METRIC_NAME else ""

    def known_scale(self, embeddings: Embeddings, camera: PinholeCamera | None) -> Scale | None:
        """Return the scale of DA3METRIC: the focal length in pixels of the network's input, by 300."""
        if camera is None or not self.scale_source:
            return None
        return Scale(0.5 * (camera.fx + camera.fy) / CANONICAL_FOCAL)

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return disparity, the inverse of the depth: (B, h, w) float32."""
        rows, columns = embeddings.grid
        result: Tensor = self.network.head(self._fuse(embeddings), rows, columns)
        return result

    def _fuse(self, embeddings: Embeddings) -> list[Tensor]:
        maps: list[Tensor] = self.network.neck(embeddings.tokens(), *embeddings.grid)
        return maps

    def sky(self, embeddings: Embeddings) -> Tensor:
        """Return the output of the sky branch, at least 0: (B, h, w)."""
        head = self.network.head
        size = [side * self.patch for side in embeddings.grid]
        shared = head.conv1(self._fuse(embeddings)[-1])
        shared = interpolate(shared, size, mode="bilinear", align_corners=True)  # (B, C, h, w)
        result: Tensor = head.sky(shared)[:, 0].relu()
        return result

    def _forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the disparity (1, h, w), 0 in the sky, and the last class token, (C,)."""
        embeddings = self.encode(pixels)
        sky = self.sky(embeddings) >= MIN_SKY
        sky = sky & ((~sky).sum() > MIN_PIXELS)
        return self.decode(embeddings).masked_fill(sky, 0.0), embeddings.constants[-1][0, 0]


class _Disparity(nn.Module):
    """Inverse of the depth exp(x)."""

    def forward(self, logits: Tensor) -> Tensor:
        return torch.exp(-logits)


def _out_layers(config: dict[str, Any]) -> list[int]:
    """Return the blocks whose tokens are decoded."""
    net = (config.get("config") or {}).get("net") or {}
    return [int(layer) for layer in net.get("out_layers", OUT_LAYERS)]


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the authors' weights under the names of transformers."""
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("model.")
        if found := re.fullmatch(r"backbone\.pretrained\.blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name):
            for part, own in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
                renamed[f"backbone.encoder.layer.{found[1]}.attention.{part}.{found[2]}"] = own
        elif found := re.fullmatch(r"head\.scratch\.layer(\d)_rn\.weight", name):
            renamed[f"neck.convs.{int(found[1]) - 1}.weight"] = value
        elif found := re.fullmatch(r"head\.scratch\.refinenet(\d)\.(.+)", name):
            rest = found[2].replace("resConfUnit", "residual_layer").replace("conv", "convolution")
            rest = rest.replace("out_convolution", "projection")
            renamed[f"neck.fusion_stage.layers.{4 - int(found[1])}.{rest}"] = value
        else:
            pattern, new = next((one for one in RENAMED if re.match(one[0], name)), ("", ""))
            renamed[re.sub(pattern, new, name, count=1) if pattern else name] = value
    return renamed


def _make_network(weights: dict[str, Tensor], layers: list[int]) -> Any:
    """Return a network of transformers with these weights, whose shapes give its size."""
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    projection = weights["backbone.embeddings.patch_embeddings.projection.weight"]  # (C, 3, patch, patch)
    channels, patch = projection.shape[0], projection.shape[-1]
    positions = weights["backbone.embeddings.position_embeddings"].shape[1] - 1
    blocks = {name.split(".")[3] for name in weights if name.startswith("backbone.encoder.layer.")}
    sizes = [
        weights[f"neck.reassemble_stage.layers.{stage}.projection.weight"].shape[0] for stage in range(4)
    ]
    backbone = Dinov2Config(
        hidden_size=channels,
        num_hidden_layers=len(blocks),
        num_attention_heads=channels // HEAD_SIZE,
        mlp_ratio=weights["backbone.encoder.layer.0.mlp.fc1.weight"].shape[0] // channels,
        image_size=patch * round(positions**0.5),
        patch_size=patch,
        out_indices=[layer + 1 for layer in layers],
        reshape_hidden_states=False,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=patch,
        reassemble_hidden_size=channels,
        neck_hidden_sizes=sizes,
        fusion_hidden_size=weights["head.conv1.weight"].shape[1],
        head_hidden_size=weights["head.conv2.weight"].shape[0],
    )
    hidden, middle = config.head_hidden_size, config.fusion_hidden_size // 2
    with torch.device("meta"):  # takes the weights as they are, in half precision too
        network = DepthAnythingForDepthEstimation(config)
        network.head.sky = nn.Sequential(
            nn.Conv2d(middle, hidden, 3, padding=1), nn.ReLU(), nn.Conv2d(hidden, 1, 1)
        )
    network.head.activation2 = _Disparity()
    # No forward pass uses these; the authors' network does not have them.
    unused = {
        name for name in network.state_dict() if name.startswith("neck.fusion_stage.layers.0.residual_layer1")
    }
    unused.add("backbone.embeddings.mask_token")
    weights |= {name: torch.zeros(network.get_parameter(name).shape) for name in unused - set(weights)}
    missing, unexpected = network.load_state_dict(weights, strict=False, assign=True)
    if wrong := [*missing, *unexpected]:
        raise ValueError(f"{len(wrong)} weights are missing or unknown, for example {sorted(wrong)[0]}")
    embeddings = network.backbone.embeddings
    embeddings.interpolate_pos_encoding = partial(_resize_positions, embeddings)
    return network


def _resize_positions(embeddings: Any, tokens: Tensor, height: int, width: int) -> Tensor:
    """Return the position embeddings (1, 1 + rows * columns, C) for an input of this size."""
    stored = embeddings.position_embeddings  # (1, 1 + side * side, C)
    side = round((stored.shape[1] - 1) ** 0.5)
    rows, columns = (pixels // embeddings.patch_embeddings.patch_size[0] for pixels in (height, width))
    if rows == columns == side:
        return stored
    grid = stored[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)  # (1, C, side, side)
    factors = ((rows + POSITION_OFFSET) / side, (columns + POSITION_OFFSET) / side)
    grid = interpolate(grid, scale_factor=factors, mode="bicubic")  # (1, C, rows, columns)
    return torch.cat((stored[:, :1], grid.flatten(2).transpose(1, 2).to(stored.dtype)), dim=1)
