"""Triangles of a scene: its solids, and models of furniture that are put among them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.scenes.models import Model
from training.scenes.objects import sample_material
from training.scenes.render import Scene
from training.scenes.solids import Material, Solid

__all__ = ["TEXTURE_SIZE", "Mesh", "build_mesh"]

TEXTURE_SIZE = 128
"""Side of a texture, in texels."""

PLACES = {
    "room": ("Living room", "Bedroom", "Office", "Kitchen", "Bathroom", "Characters", "Miscellaneous"),
    "street": ("Vehicles", "Exterior", "Characters"),
    "table": ("Kitchen", "Living room", "Miscellaneous", "Lights", "Office"),
    "terrain": ("Exterior", "Vehicles", "Characters"),
}
"""Categories of models in each kind of scene."""


@dataclass(frozen=True, slots=True)
class Mesh:
    """Vertices of triangles, three rows each."""

    vertices: NDArray[np.float32]
    """(3 N, 14): position, normal, texture coordinates, layer, tint, specular weight and shininess."""
    first_caster: int
    """First vertex that casts a shadow; room and ground come before."""


def _pack(points: NDArray, normals: NDArray, uv: NDArray, material: Material, tint: NDArray) -> NDArray:
    rest = np.empty((len(points), 6), np.float32)
    rest[:, 0] = material.texture
    rest[:, 1:4] = tint
    rest[:, 4], rest[:, 5] = material.specular, material.shininess
    return np.concatenate((points, normals, uv, rest), axis=1).astype(np.float32)


def _texture_coordinates(points: NDArray, normals: NDArray) -> NDArray:
    """Return each corner's two coordinates on the face of its triangle's normal: (3 N, 3) to (3 N, 2)."""
    axis = np.abs(normals.reshape(-1, 3, 3).sum(axis=1)).argmax(axis=1).repeat(3)
    rows = np.arange(len(points))
    return np.stack(
        (points[rows, np.where(axis == 0, 1, 0)], points[rows, np.where(axis == 2, 1, 2)]), axis=1
    )


def _triangulate(points: NDArray) -> NDArray:
    """Return the corners (3 N, ...) of the triangles of a grid (rows, columns, ...)."""
    a, b, c, d = points[:-1, :-1], points[:-1, 1:], points[1:, :-1], points[1:, 1:]
    corners = np.stack((a, b, d, a, d, c), axis=2)
    return corners.reshape(-1, *points.shape[2:])


def _box() -> tuple[NDArray, NDArray]:
    """Return corners and normals (36, 3) of the box from -1 to 1."""
    points, normals = [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            face = np.array([[[-1, -1], [1, -1]], [[-1, 1], [1, 1]]], float)
            corners = np.insert(_triangulate(face), axis, side, axis=-1)
            points.append(corners)
            normals.append(np.broadcast_to(np.eye(3)[axis] * side, corners.shape))
    return np.concatenate(points), np.concatenate(normals)


def _ball(exponent: float, half: NDArray) -> tuple[NDArray, NDArray]:
    """Return corners and normals of |x|^e + |y|^e + |z|^e = 1, scaled by `half`."""
    polar, around = np.meshgrid(
        np.linspace(1e-3, math.pi - 1e-3, 15), np.linspace(0, 2 * math.pi, 25), indexing="ij"
    )
    way = np.stack((np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar)), axis=-1)
    unit = way / (np.abs(way) ** exponent).sum(axis=-1, keepdims=True) ** (1 / exponent)
    normals = np.sign(unit) * np.abs(unit) ** (exponent - 1) / half
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-9)
    return _triangulate(unit * half), _triangulate(normals)


def _cylinder(half: NDArray) -> tuple[NDArray, NDArray]:
    around = np.linspace(0, 2 * math.pi, 25)
    ring = np.stack((np.cos(around), np.sin(around)), axis=-1)
    side = np.stack([np.insert(ring, 2, z, axis=-1) for z in (-1.0, 1.0)])
    points = [_triangulate(side)]
    normals = [_triangulate(np.stack([np.insert(ring, 2, 0.0, axis=-1)] * 2))]
    for z in (-1.0, 1.0):
        cap = _triangulate(np.stack((np.insert(0 * ring, 2, z, axis=-1), np.insert(ring, 2, z, axis=-1))))
        points.append(cap)
        normals.append(np.broadcast_to((0.0, 0.0, z), cap.shape))
    return np.concatenate(points) * half, np.concatenate(normals)


def _terrain(solid: Solid, half: NDArray) -> tuple[NDArray, NDArray]:
    assert solid.heights is not None
    heights = solid.heights.numpy().astype(float)
    y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in heights.shape], indexing="ij")
    slope_y, slope_x = np.gradient(heights, 2 * half[1] / (len(y) - 1), 2 * half[0] / (len(x) - 1))
    normals = np.stack((-slope_x, -slope_y, np.ones_like(heights)), axis=-1)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return _triangulate(np.stack((x * half[0], y * half[1], heights), axis=-1)), _triangulate(normals)


def _solid(solid: Solid) -> NDArray:
    """Return the vertices of a solid, in the world."""
    half = solid.half.numpy().astype(float)
    if solid.kind in ("box", "room"):
        points, normals = _box()
        points = points * half
    elif solid.kind == "cylinder":
        points, normals = _cylinder(half)
    elif solid.kind == "terrain":
        points, normals = _terrain(solid, half)
    else:
        points, normals = _ball(solid.exponent if solid.kind == "superquadric" else 2.0, half)
    uv = _texture_coordinates(points, normals) / solid.material.repeat
    turn, centre = solid.rotation.numpy().astype(float), solid.centre.numpy().astype(float)
    tint = np.asarray(solid.material.tint)
    return _pack(points @ turn.T + centre, normals @ turn.T, uv, solid.material, tint)


def _model(rng: np.random.Generator, model: Model, textures: int, foot: NDArray, scale: float) -> NDArray:
    """Return the vertices of a model at its foot, turned at random, its colours textured."""
    angle = rng.uniform(0, 2 * math.pi)
    c, s = math.cos(angle), math.sin(angle)
    turn = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    material = sample_material(rng, textures, float(model.size.max()), dull=True)
    plain = rng.random() < 0.5
    tint = np.clip(model.colors, 0.02, 1.0) ** 2.2 * (1.0 if plain else 1.5) + 0.02
    uv = _texture_coordinates(model.points, model.normals) / material.repeat
    if plain:
        uv = uv * 0.0
    points = scale * model.points @ turn.T + foot
    return _pack(points, model.normals @ turn.T, uv, material, tint)


def _sample_places(rng: np.random.Generator, scene: Scene) -> list[tuple[NDArray, float]]:
    """Draw feet of models away from the camera, in the world, and the largest size of each, in metres."""
    eye = scene.position.numpy().astype(float)
    feet: list[tuple[NDArray, float]] = []
    for _ in range(int(rng.integers(1, 9))):
        if scene.kind == "room":
            x, y = rng.uniform(-0.85, 0.85, 2) * scene.solids[0].half.numpy()[:2]
            foot, limit = np.array([x, y, 0.0]), 2.6
        elif scene.kind == "table":
            top = scene.solids[2]
            x, y = rng.uniform(-0.7, 0.7, 2) * float(top.half[:2].min())
            foot = np.array([x, y, float(top.centre[2] + top.half[2])])
            limit = 0.5
        elif scene.kind == "street":
            foot, limit = np.array([rng.uniform(4.0, 35.0), rng.uniform(-9.0, 9.0), 0.0]), 12.0
        else:
            away, angle = rng.uniform(4.0, 25.0), rng.uniform(-0.7, 0.7)
            foot, limit = np.array([away * math.cos(angle), away * math.sin(angle), -0.1]), 12.0
        feet.append((foot, limit))
    near = 0.35 if scene.kind == "table" else 1.0
    return [(foot, limit) for foot, limit in feet if np.linalg.norm(foot[:2] - eye[:2]) > near + 0.15 * limit]


def build_mesh(scene: Scene, models: dict[str, list[Model]], textures: int, rng: np.random.Generator) -> Mesh:
    """Build the triangles of a scene, with models at random places.

    Args:
        scene: solids, lights and camera.
        models: by category.
        textures: number of textures in the atlas.
        rng: draws the models.
    """
    ground = [_solid(solid) for solid in scene.solids if solid.kind in ("room", "terrain")]
    parts = [_solid(solid) for solid in scene.solids if solid.kind not in ("room", "terrain")]
    for foot, limit in _sample_places(rng, scene):
        model = (kind := models[str(rng.choice(PLACES[scene.kind]))])[int(rng.integers(len(kind)))]
        largest = float(model.size.max())
        if scene.kind == "table" and largest > limit:
            scale = float(rng.uniform(0.1, limit)) / largest  # a toy of it
        elif largest <= limit:
            scale = 1.0
        else:
            continue
        parts.append(_model(rng, model, textures, foot, scale))
    return Mesh(np.concatenate(ground + parts), sum(map(len, ground)))
