"""Files of a model: its configuration, and its weights in the shapes that a hub serves."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from redepth_ros.core.errors import ModelError

__all__ = ["ModelFiles", "Part", "find_weights", "has_part", "names_in", "read_json", "variant_of"]

VARIANTS = ("", "fp16", "bf16")
"""Variants of weights, in the order of preference: the plain file has the most digits."""


@dataclass(frozen=True)
class Part:
    """A network, a tokenizer or a scheduler of a model, in a folder of its own or in the model's."""

    folder: str = ""
    """Relative to the model's folder; empty for the model's own."""
    config: tuple[str, ...] = ("config.json",)
    """Files of which one at least is required."""
    stem: str = ""
    """Start of the names of its weights, for example "model"; empty for a part without weights."""
    optional: bool = False
    """Whether the index decides if the model has it."""

    def missing(self, names: Collection[str]) -> Iterator[str]:
        """Yield the files that a model with these files lacks."""
        prefix = f"{self.folder}/" if self.folder else ""
        if not any(prefix + name in names for name in self.config):
            yield prefix + self.config[0]
        if self.stem and find_weights(names, prefix + self.stem) is None:
            yield f"{prefix}{self.stem}.safetensors"


@dataclass(frozen=True)
class ModelFiles:
    """The files that are read of a model's folder."""

    parts: tuple[Part, ...]
    check: Callable[[str, dict[str, Any]], None]
    """Raises ModelError for a model of another kind, given its name and the content of its index; called
    before any weights are downloaded."""
    index: str = "config.json"
    """File that says what the model is. That of a pipeline lists its parts."""
    patterns: tuple[str, ...] = ()
    """Of further files, which a model may lack."""

    def missing(self, names: Collection[str], index: dict[str, Any]) -> list[str]:
        """Return the files that a model lacks.

        Args:
            names: of its files, relative to its folder.
            index: content of its index.
        """
        used = [part for part in self.parts if not part.optional or has_part(index, part.folder)]
        missing = [] if self.index in names else [self.index]
        return list(dict.fromkeys([*missing, *(file for part in used for file in part.missing(names))]))

    def choose(self, names: Collection[str]) -> list[str]:
        """Return which files of a hub model to download: small ones first, one set of weights per part."""
        chosen = [
            name
            for name in names
            if name == self.index
            or any(fnmatch(name, pattern) for pattern in self.patterns)
            or any(name == f"{one.folder}/{file}".lstrip("/") for one in self.parts for file in one.config)
        ]
        for part in self.parts:
            if part.stem:
                found = find_weights(names, f"{part.folder}/{part.stem}".lstrip("/"))
                chosen.extend(found[1] if found else ())
        return list(dict.fromkeys(chosen))


def has_part(index: dict[str, Any], part: str) -> bool:
    """Return whether a pipeline has a part: its index lists [library, class] of each, or [null, null]."""
    entry = index.get(part)
    return isinstance(entry, list) and bool(entry) and entry[0] is not None


def find_weights(names: Collection[str], stem: str) -> tuple[str, list[str]] | None:
    """Return the variant and the files of a network's weights, in one file or in shards with an index.

    Args:
        names: of all files of the model.
        stem: start of the names, for example "unet/diffusion_pytorch_model".

    Returns:
        For example ("fp16", ["unet/diffusion_pytorch_model.fp16.safetensors"]); None if no set is complete.
    """
    for variant in VARIANTS:
        dotted = f".{variant}" if variant else ""
        single, index = f"{stem}{dotted}.safetensors", f"{stem}.safetensors.index{dotted}.json"
        if single in names:
            return variant, [single]
        # The libraries write both orders of variant and number.
        name = re.compile(
            rf"{re.escape(stem)}({re.escape(dotted)}-\d+-of-(\d+)|-\d+-of-(\d+){re.escape(dotted)})\.safetensors"
        )
        shards = sorted(one for one in names if name.fullmatch(one))
        count = name.fullmatch(shards[0]) if shards else None
        if index in names and count and len(shards) == int(count[2] or count[3]):
            return variant, [index, *shards]
    return None


def variant_of(folder: Path, stem: str) -> str | None:
    """Return the `variant` that `from_pretrained` takes for a network's folder; None for plain weights."""
    found = find_weights(names_in(folder), stem)
    return (found[0] or None) if found else None


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder and its folders, relative to it."""
    return {
        one.relative_to(folder).as_posix()
        for one in (*folder.glob("*"), *folder.glob("*/*"))
        if one.is_file()
    }


def read_json(name: str, path: Path) -> dict[str, Any]:
    """Read a JSON object of a model's folder; {} if there is no such file."""
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{name!r}: {path} can't be read: {error}; download it again") from error
    if not isinstance(parsed, dict):
        raise ModelError(f"{name!r}: {path} is not a JSON object; download it again")
    return parsed
