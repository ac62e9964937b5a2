"""Depth Anything of transformers, with separate encoder and decoder for refinement."""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram
from torch.nn.functional import interpolate

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError, ModelError
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.networks import Embeddings
from redepth_ros.models.compiled import CompiledNetwork, Log
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.download import Report
from redepth_ros.models.hub import network_hash
from redepth_ros.models.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STDDEV,
    Preprocessing,
    fit_size,
    read_preprocessing,
    to_pixels,
)
from redepth_ros.models.pretrained import find_depth_network, load_pretrained
from redepth_ros.models.runtimes import pick_runtime

if TYPE_CHECKING:
    from transformers import DepthAnythingForDepthEstimation

__all__ = ["DepthAnything", "Prediction"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prediction:
    """What a network predicts for an image (H, W)."""

    output: Tensor
    """(H, W) float32 on the network's device: disparity, or depth in metres of a metric network."""
    class_token: Tensor
    """(C,) last class token of the encoder."""
    known_scale: Callable[[PinholeCamera | None], Scale | None]
    """Returns the scale of a disparity that the network knows itself, given the camera of the image or None;
    see `core.refine.networks.ScaledNetwork`."""


class DepthAnything:
    """A Depth Anything V1 or V2 network.

    `decode(encode(pixels))` is transformers' forward pass, differentiable; `predict` is the same
    without gradients, from an image to a map of its size.
    """

    model_type = "depth_anything"
    """Type that config.json names."""
    default_longer_side = 518
    """Longer side of the input that it was trained with, pixels; used where a folder does not give one."""
    default_mean, default_stddev = IMAGENET_MEAN, IMAGENET_STDDEV
    """Of colours in [0, 1], used where a folder does not give them."""
    encoder_name = "backbone"
    """Submodule of the network that `encode` runs, in any precision."""
    decoder_names: tuple[str, ...] = ("neck", "head")
    """Submodules that `decode` runs, in float32."""
    exportable = True
    """Whether runtimes other than torch can compile it."""
    scale_source: Literal["", "calibration", "image", "prompt"] = ""
    """Gives metres to a network that is not metric: nothing, the calibration of the camera, the image itself
    where there is no calibration, or measured depth as its prompt."""

    def __init__(
        self,
        network: DepthAnythingForDepthEstimation,
        name: str,
        *,
        longer_side: int = 0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        stddev: tuple[float, ...] = IMAGENET_STDDEV,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        # Half precision would round the disparity to steps that are visible in the normals.
        for part in self.decoder_names:
            network.get_submodule(part).float()
        self.name = name
        self.longer_side = longer_side or self.default_longer_side
        """Default of the longer side of the network's input, pixels."""
        parameter = next(network.get_submodule(self.encoder_name).parameters())
        self.device, self.dtype = parameter.device, parameter.dtype
        # (x / 255 - mean) / stddev as one multiplication and one subtraction.
        self._gain = (1.0 / (255.0 * torch.tensor(stddev)))[:, None, None].to(self.device)
        self._offset = (torch.tensor(mean) / torch.tensor(stddev))[:, None, None].to(self.device)
        self._compiled: CompiledNetwork | None = None

    @classmethod
    def load(
        cls, name: str, *, device: str = "auto", precision: str = "auto", report: Report | None = None
    ) -> DepthAnything:
        """Load a network.

        Args:
            name: `tiny` (the embedded network), a folder in transformers' layout, or a hub id such as
                depth-anything/Depth-Anything-V2-Small-hf, which is downloaded unless it is cached.
            device: auto, cpu, cuda or cuda:N.
            precision: auto, float32, float16 or bfloat16.
            report: called with the progress of a download; None draws progress bars.

        Raises:
            ConfigError: the device or the precision is not available.
            ModelError: the network is missing, damaged or of another type.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        folder = find_depth_network(name, cls.check_config, report)
        default = Preprocessing(cls.default_longer_side, cls.default_mean, cls.default_stddev)
        preprocessing = read_preprocessing(name, folder, default)
        network = cls.load_network(name, folder, dtype)
        move_to(where, f"model {name!r}", network)
        return cls(
            network,
            name,
            longer_side=preprocessing.longer_side,
            mean=preprocessing.mean,
            stddev=preprocessing.stddev,
        )

    @classmethod
    def check_config(cls, name: str, config: dict[str, Any]) -> None:
        """Raise ModelError unless the content of a config.json is that of such a network."""
        if config.get("model_type") != cls.model_type:
            raise ModelError(
                f"model {name!r} has the type {config.get('model_type')!r}; it must be {cls.model_type!r}"
            )

    @classmethod
    def load_network(cls, name: str, folder: Path, dtype: torch.dtype) -> Any:
        """Load the network of a folder, or raise ModelError."""
        return load_pretrained(name, folder, dtype)

    @property
    def patch(self) -> int:
        """Pixels of which both sides of the input are multiples."""
        return int(self.network.config.patch_size)

    @property
    def metric(self) -> bool:
        """Whether `decode` returns depth in metres instead of relative disparity."""
        return bool(self.network.config.depth_estimation_type == "metric")

    def with_runtime(self, name: str, log: Log = logger) -> DepthAnything:
        """Return the same network whose `predict` uses another runtime; refinement stays on torch.

        Args:
            name: of `runtimes.RUNTIMES`; see `CompiledNetwork`.
            log: receives the progress.

        Raises:
            ConfigError: the runtime is not installed, or can't compute on this device in this precision, or
                the network needs torch.
        """
        if name != "torch" and not self.exportable:
            raise ConfigError(
                f"runtime is {name!r}, and model {self.name!r} is a {self.model_type!r} network, which needs "
                "runtime torch"
            )
        other = copy.copy(self)
        other._compiled = None if name == "torch" else _compile(self, name, log)
        return other

    @property
    def compiling(self) -> str:
        """What a runtime compiles at the moment; empty if nothing is."""
        return self._compiled.status if self._compiled else ""

    def network_size(self, height: int, width: int, input_size: int = 0) -> tuple[int, int]:
        """Return height and width of the network's input for an image: multiples of the patch.

        Args:
            height, width: of the image, in pixels.
            input_size: longer side of the network's input, pixels; 0 takes the network's default.

        Raises:
            ImageError: the image is empty.
            ConfigError: the input size is below one patch.
        """
        if height < 1 or width < 1:
            raise ImageError(f"image of {width}x{height} pixels; both sides must be at least 1")
        longest = input_size or self.longer_side
        if longest < self.patch:
            raise ConfigError(
                f"input_size is {longest} pixels; this network needs at least its patch, {self.patch}"
            )
        return fit_size(height, width, longest, self.patch)

    def preprocess(self, image: NDArray[np.uint8], input_size: int = 0) -> Tensor:
        """Convert an image, (H, W, 3) uint8 RGB, to the network's input: (1, 3, h, w).

        Raises:
            ImageError: the image has another shape or dtype, or is empty.
        """
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ImageError(
                f"image has shape {image.shape} and dtype {image.dtype}; it must be (H, W, 3) uint8 RGB"
            )
        size = self.network_size(image.shape[0], image.shape[1], input_size)
        pixels = to_pixels(image, size, self.device)  # (1, 3, h, w)
        return (pixels * self._gain - self._offset).to(self.dtype)

    def encode(self, pixels: Tensor) -> Embeddings:
        """Return the embeddings of normalised pixels (B, 3, h, w).

        Raises:
            ImageError: a side is not a multiple of the patch.
        """
        height, width = pixels.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ImageError(
                f"network input has {width}x{height} pixels; both sides must be multiples of the patch, "
                f"{self.patch}"
            )
        stages = self.network.backbone(pixels).feature_maps  # (B, 1 + rows * columns, C) each
        patches, class_tokens = tuple(one[:, 1:] for one in stages), tuple(one[:, :1] for one in stages)
        return Embeddings(patches, class_tokens, (height // self.patch, width // self.patch))

    def decode(self, embeddings: Embeddings) -> Tensor:
        """Return disparity, or depth in metres of a metric network: (B, h, w) float32."""
        rows, columns = embeddings.grid
        fused = self.network.neck(embeddings.tokens(), rows, columns)
        result: Tensor = self.network.head(fused, rows, columns)
        return result

    def image(self, pixels: Tensor) -> Tensor:
        """Return the image that normalised pixels show: (B, 3, h, w) sRGB in [0, 1]."""
        return ((pixels + self._offset) / (255.0 * self._gain)).clamp(0.0, 1.0)

    def fork(self) -> DepthAnything:
        """Return the same network with a decoder of its own; the encoder is shared."""
        fork = copy.copy(self)
        fork._compiled = None
        for name in self.decoder_names:
            own = copy.deepcopy(self.network.get_submodule(name))
            fork.network = _replace_part(fork.network, name, own)
        return fork

    def decoder_parameters(self) -> list[torch.nn.Parameter]:
        """Return the decoder's weights."""
        parts = (self.network.get_submodule(name) for name in self.decoder_names)
        return [weight for part in parts for weight in part.parameters()]

    @torch.inference_mode()
    def predict(self, image: NDArray[np.uint8], input_size: int = 0) -> Tensor:
        """Return disparity, or depth in metres of a metric network, at the image's size.

        Args:
            image: (H, W, 3) uint8 RGB.
            input_size: longer side of the network's input, pixels; 0 takes the network's default.

        Returns:
            (H, W) float32 on the network's device.

        Raises:
            ImageError: the image has another shape or dtype, or is empty.
        """
        return self.predict_frame(image, input_size).output

    @torch.inference_mode()
    def predict_frame(self, image: NDArray[np.uint8], input_size: int = 0) -> Prediction:
        """Return the result of `predict`, and what else a stream of images needs."""
        pixels = self.preprocess(image, input_size)  # (1, 3, h, w)
        output, class_token, *constants = (self._compiled or self._forward)(pixels)
        full = interpolate(output[:, None].float(), image.shape[:2], mode="bilinear")
        height, width = pixels.shape[-2:]
        embeddings = Embeddings((), tuple(constants))

        def known_scale(camera: PinholeCamera | None) -> Scale | None:
            return self.known_scale(embeddings, camera.resized(width, height) if camera else None)

        return Prediction(full[0, 0], class_token, known_scale)

    def known_scale(self, embeddings: Embeddings, camera: PinholeCamera | None) -> Scale | None:
        """Return the scale of the disparity that the network knows itself; None if it knows none.

        Args:
            embeddings: of the image; the constants suffice.
            camera: of the network's input; None if it is unknown.
        """
        return None

    def _forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the prediction (1, h, w) of normalised pixels (1, 3, h, w) and the last class token (C,).

        The constants that `known_scale` needs follow.
        """
        embeddings = self.encode(pixels)
        return self.decode(embeddings), embeddings.constants[-1][0, 0]


def _replace_part(module: Any, name: str, part: torch.nn.Module) -> Any:
    """Return a copy of a module that shares all but the submodule of this dotted name."""
    first, _, rest = name.partition(".")
    other = copy.copy(module)
    other._modules = dict(module._modules)
    other._modules[first] = _replace_part(module._modules[first], rest, part) if rest else part
    return other


class _Forward(torch.nn.Module):
    """`DepthAnything._forward` as a module, with weights of any type."""

    def __init__(self, model: DepthAnything, dtype: torch.dtype) -> None:
        super().__init__()
        self._model = copy.copy(model)
        if dtype != model.dtype:
            self._model.network = copy.deepcopy(model.network).to(dtype)
        self.network = self._model.network  # torch.export finds the weights here

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return self._model._forward(pixels)


def _export(model: DepthAnything, height: int, width: int, dtype: torch.dtype) -> ExportedProgram:
    """Return the graph of a forward pass for an input of this size, with weights of this type."""
    pixels = torch.zeros(1, 3, height, width, dtype=dtype, device=model.device)
    return torch.export.export(_Forward(model, dtype), (pixels,))


def _compile(model: DepthAnything, name: str, log: Log) -> CompiledNetwork:
    """Return the forward pass by a runtime of this name."""
    runtime = pick_runtime(name, model.device, model.dtype)
    config = hashlib.sha256(model.network.config.to_json_string().encode()).hexdigest()[:8]
    precision = str(model.dtype).removeprefix("torch.")
    key = f"{precision}-{network_hash(model.network)}-{config}"
    return CompiledNetwork(partial(_export, model), key, runtime, log)
