"""How a depth network's input is made, as the preprocessor_config.json of its folder says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.errors import ModelError
from redepth_ros.models.files import read_json

__all__ = ["IMAGENET_MEAN", "IMAGENET_STDDEV", "Preprocessing", "fit_size", "read_preprocessing", "to_pixels"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STDDEV = (0.229, 0.224, 0.225)
FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """Size and normalisation of the input."""

    longer_side: int
    """Longer side of the input, pixels."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    """Mean that is subtracted from colours in [0, 1], by channel."""
    stddev: tuple[float, ...] = IMAGENET_STDDEV
    """Standard deviation by which they are divided, by channel."""


def read_preprocessing(name: str, folder: Path, default: Preprocessing) -> Preprocessing:
    """Read the preprocessing of a network.

    Args:
        name: of the network, in messages.
        folder: of the network.
        default: for all that the file does not give.

    Raises:
        ModelError: a value has another type or is out of its range.
    """
    config = read_json(name, folder / FILE)
    # Colours in [0, 255] are normalised by some processors, those in [0, 1] by the others.
    unit = 1.0 if config.get("do_rescale", True) else 255.0
    longer_side = default.longer_side
    if config.get("do_resize", True) and config.get("size"):
        longer_side = _read_side(name, config["size"])
    if not config.get("do_normalize", True):
        return Preprocessing(longer_side, (0.0,) * 3, (1.0,) * 3)
    mean = _read_colour(name, config, "image_mean", default.mean, unit)
    stddev = _read_colour(name, config, "image_std", default.stddev, unit)
    if min(stddev) <= 0.0:
        raise ModelError(_wrong(name, "image_std", config["image_std"], "three numbers above 0"))
    return Preprocessing(longer_side, mean, stddev)


def to_pixels(image: NDArray[np.uint8], size: tuple[int, int], device: torch.device) -> Tensor:
    """Return an image (H, W, 3), uint8 RGB, at another size (h, w) on a device: (1, 3, h, w) in [0, 255]."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
    pixels = pixels.permute(2, 0, 1).unsqueeze(0)  # (1, 3, H, W), channels last in memory
    if device.type == "cuda":  # antialiased resizing takes uint8 on a CPU only
        pixels = pixels.float()
    return interpolate(pixels, size, mode="bilinear", antialias=True)


def fit_size(height: int, width: int, longer_side: int, multiple: int) -> tuple[int, int]:
    """Return height and width for a longer side of about this length; both are multiples, and not 0."""
    scale = (longer_side // multiple) / max(height, width)
    return max(1, round(height * scale)) * multiple, max(1, round(width * scale)) * multiple


def _read_side(name: str, size: Any) -> int:
    """Return the longer side of a size: an integer, or a dictionary of integers."""
    sides = list(size.values()) if isinstance(size, dict) else [size]
    if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise ModelError(_wrong(name, "size", size, "a dictionary of height and width, in pixels"))
    return int(max(sides))


def _read_colour(
    name: str, config: dict[str, Any], key: str, default: tuple[float, ...], unit: float
) -> tuple[float, ...]:
    """Return a value of the three channels, for colours in [0, 1]."""
    value = config.get(key)
    if value is None:
        return default
    numbers = value if isinstance(value, list) else []
    if len(numbers) != 3 or not all(type(one) in (int, float) for one in numbers):
        raise ModelError(_wrong(name, key, value, "a list of three numbers"))
    return tuple(one / unit for one in numbers)


def _wrong(name: str, key: str, value: Any, valid: str) -> str:
    return f"model {name!r}: {key} in {FILE} is {value!r}; it must be {valid}; correct or delete the file"
