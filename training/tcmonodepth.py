"""TCMonoDepth, small model: teacher of the embedded depth network, and a genuine network for tests.

The weights are not part of the package (github.com/yu-li/TCMonoDepth, MIT licence, copyright (c) 2021 Yu Li).
Layers carry the names of the published checkpoint.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from redepth_ros.core.errors import ImageError
from redepth_ros.core.refine.networks import Embeddings

__all__ = ["WEIGHTS", "TcMonoDepth"]

WEIGHTS = Path(__file__).parents[2] / "shared/data/networks/tcmonodepth_small/model.safetensors"

STAGES = ((24, 48, 4), (48, 96, 8), (96, 192, 4))
"""Channels before and after each stage of the encoder, and its units."""


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class _Unit(nn.Module):
    """Unit of ShuffleNetV2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        seen = inputs if stride == 2 else inputs // 2
        middle = outputs // 2
        self.branch_main = nn.Sequential(
            _convolution(seen, middle, 1),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            _convolution(middle, middle, 3, stride, middle),
            nn.BatchNorm2d(middle),
            _convolution(middle, outputs - seen, 1),
            nn.BatchNorm2d(outputs - seen),
            nn.ReLU(),
        )
        self.branch_proj = None
        if stride == 2:
            self.branch_proj = nn.Sequential(
                _convolution(inputs, inputs, 3, 2, inputs),
                nn.BatchNorm2d(inputs),
                _convolution(inputs, inputs, 1),
                nn.BatchNorm2d(inputs),
                nn.ReLU(),
            )

    def forward(self, maps: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat((self.branch_proj(maps), self.branch_main(maps)), dim=1)
        return torch.cat((maps[:, 0::2], self.branch_main(maps[:, 1::2])), dim=1)


class _Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        first = STAGES[0][0]
        self.first_conv = nn.Sequential(_convolution(3, first, 3, 2), nn.BatchNorm2d(first), nn.ReLU())
        units = [
            _Unit(inputs, outputs, 2) if number == 0 else _Unit(outputs, outputs, 1)
            for inputs, outputs, count in STAGES
            for number in range(count)
        ]
        self.features = nn.Sequential(*units)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.first_conv(image)  # (B, 24, h / 2, w / 2)
        found, first = [maps], 0
        for _, _, count in STAGES:
            maps = self.features[first : first + count](maps)  # (B, C, h / 4, w / 4) and coarser
            found.append(maps)
            first += count
        return tuple(found)


class _Separable(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _convolution(inputs, inputs, 3, groups=inputs),
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            _convolution(inputs, outputs, 1),
        )

    def forward(self, maps: Tensor) -> Tensor:
        result: Tensor = self.conv(maps)
        return result


class _Block(nn.Module):
    """Block of the decoder: joins a coarse map with a finer one."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.skip_conv = nn.Sequential(
            _convolution(fine, coarse // 4, 1), nn.BatchNorm2d(coarse // 4), nn.ReLU()
        )
        self.last_conv = nn.Sequential(
            _Separable(coarse + coarse // 4, fine), nn.BatchNorm2d(fine), nn.ReLU()
        )

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        coarse = interpolate(coarse, fine.shape[-2:], mode="bilinear")
        result: Tensor = self.last_conv(torch.cat((coarse, self.skip_conv(fine)), dim=1))
        return result


class _Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decoder1, self.decoder2, self.decoder3 = (_Block(coarse, fine) for fine, coarse, _ in STAGES)
        self.final = nn.Conv2d(STAGES[0][0], 1, 3, padding=1)

    def forward(self, features: tuple[Tensor, ...]) -> Tensor:
        maps = features[3]
        for block, fine in zip((self.decoder3, self.decoder2, self.decoder1), features[2::-1], strict=True):
            maps = block(maps, fine)
        disparity = relu(self.final(maps))  # (B, 1, h / 2, w / 2)
        disparity = interpolate(disparity, scale_factor=2, mode="bilinear")
        return disparity[:, 0]  # (B, h, w)


class TcMonoDepth:
    """TCMonoDepth with the methods of `DepthNetwork`, and those that `Engine` calls."""

    metric = False
    name = "tcmonodepth_small"
    patch = 32
    """Pixels of which both sides of the input are multiples."""
    shorter_side = 256
    """Pixels of the input's shorter side."""

    def __init__(self, encoder: _Encoder, decoder: _Decoder, shorter_side: int = 256) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.decoder = decoder.eval().requires_grad_(False)
        self.shorter_side = shorter_side

    @classmethod
    def load(cls, path: Path = WEIGHTS, shorter_side: int = 256) -> TcMonoDepth:
        """Load published weights from a safetensors file."""
        weights = load_file(path)
        parts: tuple[_Encoder, _Decoder] = (_Encoder(), _Decoder())
        for prefix, part in zip(("encoder.", "decoder."), parts, strict=True):
            own = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix) and "final2" not in name and "final3" not in name
            }
            part.load_state_dict(own)
        return cls(*parts, shorter_side)

    def preprocess(self, image: NDArray[np.uint8], input_size: int = 0) -> Tensor:
        """Resize a image (H, W, 3), RGB bytes, to the network's input (1, 3, h, w) in [0, 1].

        Args:
            image: the image.
            input_size: pixels; 0 makes the shorter side `shorter_side`.
        """
        height, width = image.shape[:2]
        scale = self.shorter_side / min(height, width)
        if input_size:
            scale = input_size / max(height, width)
        size = [max(1, round(side * scale / self.patch)) * self.patch for side in (height, width)]
        pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]  # (1, 3, H, W)
        return interpolate(pixels, size, mode="bilinear", antialias=True).float() / 255.0

    def encode(self, pixels: Tensor) -> Embeddings:
        """Compute the feature maps of pixels (B, 3, h, w): (B, C, rows, columns) at strides 2 to 16.

        Raises:
            ImageError: a size that is not a multiple of 32 pixels.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ImageError(
                f"network input of {width}x{height} pixels; both sides must be multiples of {self.patch}"
            )
        return Embeddings(self.encoder(pixels))

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Compute the relative disparity (B, h, w), about 0.1 to 1.3, of feature maps."""
        result: Tensor = self.decoder(embeddings.features)
        return result

    def image(self, pixels: Tensor) -> Tensor:
        """Return the image (B, 3, h, w) in [0, 1] that pixels show: the pixels themselves."""
        return pixels.clamp(0.0, 1.0)

    def fork(self) -> TcMonoDepth:
        """Return the same network with a decoder of its own; the encoder is shared."""
        return TcMonoDepth(self.encoder, copy.deepcopy(self.decoder), self.shorter_side)

    def decoder_parameters(self) -> list[nn.Parameter]:
        """Return the decoder's weights."""
        return list(self.decoder.parameters())
