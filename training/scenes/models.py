"""Furniture, people, plants and vehicles: the models of Debian's package `sweethome3d-furniture`.

Only models under CC0 and CC BY 3.0 are in its catalogues; NOTICE credits their authors.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

__all__ = ["CATALOGUES", "Model", "load_models"]

CATALOGUES = Path("/usr/share/sweethome3d/furniture")
"""Folder of the catalogues (.sh3f) that the package installs."""

MAX_BYTES = 600_000
"""Larger models are left out: their detail is below a pixel."""


@dataclass(frozen=True, slots=True)
class Model:
    """Triangles of a model in metres; z points up, and the origin is the centre of its foot."""

    name: str
    category: str
    points: NDArray[np.float32]
    """(3 N, 3) corners of N triangles."""
    normals: NDArray[np.float32]
    """(3 N, 3) unit normals."""
    colors: NDArray[np.float32]
    """(3 N, 3) diffuse colour of the material, sRGB in [0, 1]."""

    @property
    def size(self) -> NDArray[np.float32]:
        """Width, depth and height in metres."""
        size: NDArray[np.float32] = np.ptp(self.points, axis=0)
        return size


def _read_materials(text: str) -> dict[str, tuple[float, ...]]:
    """Return the diffuse colour of each material of an MTL file."""
    colors, name = {}, ""
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["newmtl"]:
            name = words[1]
        elif words[:1] == ["Kd"] and len(words) >= 4:
            colors[name] = tuple(float(word) for word in words[1:4])
    return colors


def _read_obj(text: str, colors: dict[str, tuple[float, ...]]) -> tuple[NDArray, NDArray, NDArray]:
    """Return corners, normals and colours, (3 N, 3) each, of the triangles of an OBJ file."""
    vertices: list[list[str]] = []
    corners: list[int] = []
    shades: list[tuple[float, ...]] = []
    color: tuple[float, ...] = (0.7, 0.7, 0.7)
    for line in text.splitlines():
        if line.startswith("v "):
            vertices.append(line.split()[1:4])
        elif line.startswith("usemtl"):
            color = colors.get(line.split(maxsplit=1)[1].strip(), color)
        elif line.startswith("f "):
            face = [int(word.split("/", 1)[0]) for word in line.split()[1:]]
            face = [index - 1 if index > 0 else len(vertices) + index for index in face]
            for second, third in pairwise(face[1:]):
                corners += (face[0], second, third)
                shades += [color] * 3
    points = np.asarray(vertices, np.float32)[corners]  # (3 N, 3)
    triangles = points.reshape(-1, 3, 3)
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return points, np.repeat(normals, 3, axis=0), np.asarray(shades, np.float32)


def _read_catalogue(path: Path) -> Iterator[Model]:
    with zipfile.ZipFile(path) as archive:
        catalogue = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        entries: dict[str, dict[str, str]] = {}
        for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", catalogue, re.MULTILINE):
            entries.setdefault(number, {})[key] = value.strip()
        for entry in entries.values():
            inside = entry.get("model", "").lstrip("/")
            if not inside.endswith(".obj") or "modelRotation" in entry or entry.get("doorOrWindow") == "true":
                continue
            if inside not in archive.namelist() or archive.getinfo(inside).file_size > MAX_BYTES:
                continue
            text = archive.read(inside).decode("latin-1")
            found = re.search(r"^mtllib\s+(.+)$", text, re.MULTILINE)
            library = str(PurePosixPath(inside).parent / found.group(1).strip()) if found else ""
            known = library in archive.namelist()
            colors = _read_materials(archive.read(library).decode("latin-1")) if known else {}
            points, normals, shades = _read_obj(text, colors)
            if len(points) == 0:
                continue
            low, extent = points.min(axis=0), np.ptp(points, axis=0)
            size = np.array([float(entry[key]) for key in ("width", "height", "depth")], np.float32) / 100.0
            unit = (points - low) / np.maximum(extent, 1e-9) - (0.5, 0.0, 0.5)
            axes = (unit * size)[:, [0, 2, 1]] * (1, -1, 1)  # width, depth, height: z points up
            turned = normals[:, [0, 2, 1]] * (1, -1, 1)
            category = entry.get("category", "Miscellaneous")
            yield Model(entry["id"], category, axes.astype(np.float32), turned.astype(np.float32), shades)


def load_models(folder: Path = CATALOGUES) -> list[Model]:
    """Read all models of the catalogues, ordered by catalogue and name."""
    return [
        model
        for path in sorted(folder.glob("*.sh3f"))
        for model in sorted(_read_catalogue(path), key=lambda model: model.name)
    ]
