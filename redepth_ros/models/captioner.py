"""Captions of images by BLIP of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from redepth_ros.core.errors import ModelError
from redepth_ros.models.devices import move_to, pick_device, pick_dtype
from redepth_ros.models.download import Report
from redepth_ros.models.files import ModelFiles, Part, variant_of
from redepth_ros.models.hub import find_folder, first_line, loading

__all__ = ["Captioner"]


def _check_type(name: str, config: dict[str, Any]) -> None:
    """Raise ModelError unless a config.json is that of a BLIP model."""
    if config.get("model_type") != "blip":
        raise ModelError(
            f"captioner {name!r} has the type {config.get('model_type')!r}; it must be a BLIP captioning "
            "model, such as Salesforce/blip-image-captioning-base; or set a prompt instead"
        )


FILES = ModelFiles((Part(stem="model"),), _check_type, patterns=("*.json", "vocab.txt"))


class Captioner:
    """A BLIP network that writes the prompt of a prior, once per image."""

    def __init__(self, network: Any, processor: Any, name: str) -> None:
        self.network = network.eval().requires_grad_(False)
        self._processor = processor
        self.name = name

    @classmethod
    def load(
        cls, name: str, *, device: str = "auto", precision: str = "auto", report: Report | None = None
    ) -> Captioner:
        """Load a captioner.

        Args:
            name: a folder, or a hub id such as Salesforce/blip-image-captioning-base.
            device: auto, cpu, cuda or cuda:N.
            precision: auto, float32, float16 or bfloat16.
            report: called with the progress of a download; None draws progress bars.

        Raises:
            ConfigError: the device or the precision is not available.
            ModelError: the network is missing, damaged or of another kind.
        """
        where = pick_device(device)
        dtype = pick_dtype(precision, where)
        needs = "config.json, model.safetensors and a tokenizer"
        folder = find_folder(name, FILES, option="captioner", needs=needs, report=report)
        try:
            network, processor = _load_parts(folder, dtype)
        except Exception as error:  # transformers raises errors of many libraries
            raise ModelError(
                f"captioner {name!r} can't be loaded: {first_line(error)}. It must be a BLIP captioning "
                "model with safetensors; or set a prompt instead"
            ) from error
        move_to(where, f"captioner {name!r}", network)
        return cls(network, processor, name)

    @torch.inference_mode()
    def caption(self, image: NDArray[np.uint8]) -> str:
        """Return a caption of an image, (H, W, 3) uint8 RGB."""
        inputs = self._processor(images=image, return_tensors="pt").to(self.network.device)
        pixels = inputs["pixel_values"].to(self.network.dtype)
        tokens = self.network.generate(pixel_values=pixels, max_new_tokens=30, num_beams=3)
        return str(self._processor.decode(tokens[0], skip_special_tokens=True)).strip()


@loading()
def _load_parts(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """Load network and processor of a folder."""
    from transformers import (
        BertTokenizerFast,
        BlipForConditionalGeneration,
        BlipImageProcessorPil,
        BlipProcessor,
    )

    # Assembled here: the image processor that transformers chooses needs torchvision.
    processor = BlipProcessor(
        BlipImageProcessorPil.from_pretrained(folder), BertTokenizerFast.from_pretrained(folder)
    )
    network = BlipForConditionalGeneration.from_pretrained(
        folder, dtype=dtype, use_safetensors=True, variant=variant_of(folder, "model")
    )
    return network, processor
