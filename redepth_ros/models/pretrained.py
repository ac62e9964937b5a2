"""Depth networks in transformers' layout: their folders and their weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from redepth_ros.core.errors import ModelError
from redepth_ros.models.download import Report
from redepth_ros.models.files import ModelFiles, Part, variant_of
from redepth_ros.models.hub import check_complete, find_folder, first_line, loading

__all__ = ["TINY_DEPTH", "find_depth_network", "load_pretrained"]

TINY_DEPTH = Path(__file__).parent / "tiny" / "depth"
"""Folder of the embedded network, for demos and tests."""

NEEDS = "config.json and model.safetensors"

UNUSED = "neck.fusion_stage.layers.0.residual_layer1."
"""Weights that no forward pass uses, and that published networks may lack."""


def find_depth_network(
    name: str, check: Callable[[str, dict[str, Any]], None], report: Report | None = None
) -> Path:
    """Return the folder of a depth network; downloads it if needed.

    Args:
        name: see `DepthAnything.load`.
        check: raises ModelError for another type, given the name and the content of config.json.
        report: called with the progress of a download; None draws progress bars.

    Raises:
        ModelError: the network is missing or of another type.
    """
    if name == "tiny":
        return TINY_DEPTH
    files = ModelFiles((Part(stem="model"),), check, patterns=("preprocessor_config.json",))
    return find_folder(name, files, option="model", needs=NEEDS, report=report)


@loading()
def load_pretrained(name: str, folder: Path, dtype: torch.dtype) -> Any:
    """Load the network of the class that config.json names, with all of its weights."""
    from transformers import AutoModelForDepthEstimation

    try:
        network, loading_info = AutoModelForDepthEstimation.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            variant=variant_of(folder, "model"),
        )
    except Exception as error:  # transformers raises errors of many libraries
        raise ModelError(
            f"model {name!r} can't be loaded: {first_line(error)}. Its model.safetensors must be "
            "complete and fit its config.json; download it again"
        ) from error
    used = [one for one in loading_info["missing_keys"] if UNUSED not in one]
    check_complete(f"model {name!r}", loading_info | {"missing_keys": used})
    return network
