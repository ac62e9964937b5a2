"""Depth Anything V2 through transformers, in the two halves that refinement needs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.core.errors import ConfigError, ImageError, ModelError
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.hub import find_folder, first_line, read_json

if TYPE_CHECKING:
    from transformers import DepthAnythingForDepthEstimation

__all__ = ["TINY", "DepthAnything"]

TINY = Path(__file__).parent / "tiny" / "depth"
"""Folder of the embedded network: for demos and tests, not for robots."""

FILES = ("config.json", "preprocessor_config.json", "*.safetensors", "*.safetensors.index.json")
NEEDS = "config.json and model.safetensors"

DEFAULT_LONGER_SIDE = 518
"""Pixels; what Depth Anything V2 was trained at, taken where a folder does not say."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


class DepthAnything:
    """A Depth Anything V2 network (or V1: the classes are the same), ready to run.

    `encode` and `decode` composed are transformers' own forward pass. Both are
    differentiable; `predict` is the same without gradients, from a picture to its size.
    """

    def __init__(
        self,
        network: DepthAnythingForDepthEstimation,
        name: str,
        *,
        longer_side: int = DEFAULT_LONGER_SIDE,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        deviation: tuple[float, ...] = IMAGENET_DEVIATION,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.name = name
        self.longer_side = longer_side
        """The longer side, in pixels, that the network sees unless told otherwise."""
        self.patch = int(network.config.patch_size)
        self.metric = network.config.depth_estimation_type == "metric"
        """Whether `decode` gives metres of depth instead of a relative disparity."""
        parameter = next(network.parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        # (x / 255 - mean) / deviation as one multiplication and one addition of bytes.
        self._gain = (1.0 / (255.0 * torch.tensor(deviation)))[:, None, None].to(self.device)
        self._offset = (torch.tensor(mean) / torch.tensor(deviation))[:, None, None].to(self.device)

    @classmethod
    def load(cls, name: str, *, device: str = "auto", precision: str = "auto") -> DepthAnything:
        """Load a network.

        Args:
            name: `tiny` (the embedded one), a folder in transformers' layout, or a hub id
                such as depth-anything/Depth-Anything-V2-Small-hf. A hub model is taken from
                the cache where it is there, and else downloaded.
            device: auto, cpu, cuda or cuda:N.
            precision: auto, float32, float16 or bfloat16.

        Raises:
            ConfigError: a device or precision that can't be had.
            ModelError: the network is missing, damaged or of another kind.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        folder = TINY if name == "tiny" else find_folder(name, FILES, option="model", needs=NEEDS)
        settings = read_json(name, folder / "preprocessor_config.json")
        network = _load_network(name, folder, dtype)
        move_to(where, f"model {name!r}", network)
        size = settings.get("size") or {}
        return cls(
            network,
            name,
            longer_side=int(max(size.values(), default=DEFAULT_LONGER_SIDE)),
            mean=tuple(settings.get("image_mean") or IMAGENET_MEAN),
            deviation=tuple(settings.get("image_std") or IMAGENET_DEVIATION),
        )

    def input_size(self, height: int, width: int, longer_side: int = 0) -> tuple[int, int]:
        """Rows and columns at which the network sees an image: multiples of the patch.

        Args:
            height, width: of the image, in pixels.
            longer_side: at most so many pixels; 0 is the model's own.

        Raises:
            ImageError: an image of no size.
            ConfigError: a longer side below one patch.
        """
        if height < 1 or width < 1:
            raise ImageError(f"image of {width}x{height} pixels; both sides must be at least 1")
        longest = longer_side or self.longer_side
        if longest < self.patch:
            raise ConfigError(
                f"input_size is {longest} pixels; this model needs at least its patch, {self.patch}"
            )
        scale = (longest // self.patch) / max(height, width)
        return (
            max(1, round(height * scale)) * self.patch,
            max(1, round(width * scale)) * self.patch,
        )

    def preprocess(self, image: NDArray[np.uint8], longer_side: int = 0) -> Tensor:
        """A picture, (H, W, 3) RGB bytes, as the network's input: (1, 3, h, w).

        Raises:
            ImageError: another shape or dtype, or an image of no size.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"image of shape {image.shape} and dtype {image.dtype}; the model takes (H, W, 3) RGB bytes"
            )
        size = self.input_size(image.shape[0], image.shape[1], longer_side)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        pixels = pixels.permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W), channels last in memory
        if self.device.type == "cuda":  # antialiased resizing takes bytes on a CPU only
            pixels = pixels.float()
        pixels = interpolate(pixels, size, mode="bilinear", antialias=True)  # (1, 3, h, w)
        return (pixels * self._gain - self._offset).to(self.dtype)

    def encode(self, pixels: Tensor) -> Embeddings:
        """Embeddings of normalised pixels (B, 3, h, w), both sides multiples of the patch.

        Raises:
            ImageError: a size that is not a multiple of the patch.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ImageError(
                f"network input of {width}x{height} pixels; both sides must be multiples "
                f"of the patch, {self.patch}"
            )
        features = self.network.backbone(pixels).feature_maps
        return Embeddings(tuple(features), (height // self.patch, width // self.patch))

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Disparity (or, where `metric`, depth in metres) of embeddings: (B, h, w)."""
        rows, columns = embeddings.grid
        dtype = next(self.network.neck.parameters()).dtype
        fused = self.network.neck([one.to(dtype) for one in embeddings.features], rows, columns)
        result: Tensor = self.network.head(fused, rows, columns)
        return result

    def picture(self, pixels: Tensor) -> Tensor:
        """The sRGB picture, 0..1, that normalised pixels show: (B, 3, h, w)."""
        return ((pixels + self._offset) / (255.0 * self._gain)).clamp(0.0, 1.0)

    def fork(self) -> DepthAnything:
        """The same network with a float32 decoder of its own; the encoder is shared.

        Half precision would round the disparity to steps that show in the normals, and lose the
        small updates of weights that are trained.
        """
        network = copy.copy(self.network)
        network._modules = dict(self.network._modules)
        for part in ("neck", "head"):
            network._modules[part] = copy.deepcopy(self.network._modules[part]).float()
        fork = copy.copy(self)
        fork.network = network
        return fork

    def decoder_parameters(self) -> list[torch.nn.Parameter]:
        """The weights of neck and head."""
        return [*self.network.neck.parameters(), *self.network.head.parameters()]

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], longer_side: int = 0) -> Tensor:
        """Disparity (or, where `metric`, depth in metres) of a picture, at its own size.

        Args:
            image: (H, W, 3) RGB bytes.
            longer_side: pixels at which the network sees the image; 0 is the model's own.

        Returns:
            (H, W) float32 on the network's device.

        Raises:
            ImageError: another shape or dtype, or an image of no size.
        """
        return self.predict_with_signature(image, longer_side)[0]

    @torch.inference_mode()
    def predict_with_signature(self, image: NDArray[np.uint8], longer_side: int = 0) -> tuple[Tensor, Tensor]:
        """As `predict`, and the last class token, (C,): what the encoder thinks of it as a whole."""
        embeddings = self.encode(self.preprocess(image, longer_side))
        decoded = self.decode(embeddings)
        full = interpolate(decoded[:, None].float(), image.shape[:2], mode="bilinear")
        return full[0, 0], embeddings.features[-1][0, 0]


def _load_network(name: str, folder: Path, dtype: torch.dtype) -> DepthAnythingForDepthEstimation:
    """The network of a folder, every weight of which was found there."""
    from transformers import DepthAnythingForDepthEstimation

    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model {name!r}: there is no config.json in {folder}; a model folder holds "
            "config.json and model.safetensors, as save_pretrained writes them"
        )
    kind = read_json(name, folder / "config.json").get("model_type")
    if kind != "depth_anything":
        raise ModelError(
            f"model {name!r} is of type {kind!r}, not 'depth_anything': choose a Depth Anything "
            "model in transformers' layout (its name ends in -hf on the hub)"
        )
    try:
        network, found = DepthAnythingForDepthEstimation.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # transformers passes on what its many parts raise
        raise ModelError(
            f"model {name!r} can't be loaded: {first_line(error)}. It needs an intact "
            "model.safetensors that fits its config.json: download it again"
        ) from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(
            f"model {name!r} lacks {len(missing)} of its weights, {missing[0]} for one: "
            "model.safetensors does not belong to its config.json"
        )
    return network
