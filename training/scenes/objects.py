"""Random objects of a scene: furniture, people, cars and small things.

Each `sample_*` draws from a random generator. Proportions are those of real things (a table is
about 0.75 m high), because a single image shows depth mostly through the usual size of things.
World frame: REP 103, z up, metres. `textures` is the number of textures in the atlas; `foot` is
where an object stands.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from training.scenes.solids import Material, Solid

__all__ = [
    "FURNITURE",
    "Color",
    "make_box",
    "rotation_about_z",
    "sample_cabinet",
    "sample_car",
    "sample_gray",
    "sample_material",
    "sample_person",
    "sample_thing",
    "sample_white",
]

Color = tuple[float, float, float]
Vector = tuple[float, float, float]
Part = tuple[Vector, Vector]
"""Centre and size of a box in the frame of its piece of furniture."""


def sample_gray(rng: np.random.Generator, low: float, high: float, tinge: float = 0.1) -> Color:
    """Draw a colour of random brightness with a slight cast."""
    base = rng.uniform(low, high)
    r, g, b = base * (1.0 + tinge * rng.uniform(-1.0, 1.0, 3))
    return float(r), float(g), float(b)


def sample_white(rng: np.random.Generator, power: float) -> Color:
    """Draw warm or cold light of a given power."""
    warmth = rng.uniform(-0.2, 0.2)
    return float(power * (1 + warmth)), float(power), float(power * (1 - warmth))


def sample_material(rng: np.random.Generator, textures: int, size: float, dull: bool = False) -> Material:
    """Draw the material of an object about `size` metres long."""
    tint = sample_gray(rng, 0.25, 1.2, tinge=0.15 if dull else 0.5)
    glossy = rng.random() < (0.15 if dull else 0.4)
    return Material(
        texture=int(rng.integers(textures)),
        repeat=float(size * rng.uniform(0.15, 1.5)),
        tint=tint,
        specular=float(rng.uniform(0.05, 0.5)) if glossy else 0.0,
        shininess=float(2.0 ** rng.uniform(3, 6)),
    )


def rotation_about_z(yaw: float) -> Tensor:
    """Return the rotation (3, 3) about the world's z axis by an angle in radians."""
    c, s = math.cos(yaw), math.sin(yaw)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _sample_rotation(rng: np.random.Generator) -> Tensor:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return torch.from_numpy((q * np.sign(np.linalg.det(q))).astype(np.float32))


def make_box(
    rng: np.random.Generator,
    textures: int,
    centre: Vector,
    size: Vector,
    yaw: float = 0.0,
    material: Material | None = None,
) -> Solid:
    """Make an upright box of a full size, turned by yaw; its material is drawn unless given."""
    return Solid(
        "box",
        torch.tensor(centre, dtype=torch.float32),
        0.5 * torch.tensor(size, dtype=torch.float32),
        material or sample_material(rng, textures, max(size)),
        rotation_about_z(yaw),
    )


def _assemble(
    rng: np.random.Generator,
    textures: int,
    foot: Vector,
    yaw: float,
    parts: list[Part],
    material: Material,
) -> list[Solid]:
    """Place the boxes of a piece of furniture at its foot."""
    turn = rotation_about_z(yaw)
    solids = []
    for centre, size in parts:
        x, y, z = (turn @ torch.tensor(centre, dtype=torch.float32) + torch.tensor(foot)).tolist()
        solids.append(make_box(rng, textures, (x, y, z), size, yaw, material))
    return solids


def _sample_table(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    w, d, h = rng.uniform(0.6, 1.8), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.9)
    leg = rng.uniform(0.04, 0.1)
    parts: list[Part] = [((0.0, 0.0, h), (w, d, 0.05))]
    for x in (-1, 1):
        for y in (-1, 1):
            at = (x * (w - leg) / 2, y * (d - leg) / 2, h / 2)
            parts.append((at, (leg, leg, h)))
    return _assemble(rng, textures, foot, yaw, parts, sample_material(rng, textures, w))


def _sample_chair(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    w, h, leg = rng.uniform(0.4, 0.55), rng.uniform(0.42, 0.5), 0.04
    parts: list[Part] = [((0.0, 0.0, h), (w, w, 0.05)), ((-w / 2, 0.0, h + 0.25), (0.04, w, 0.5))]
    for x in (-1, 1):
        for y in (-1, 1):
            parts.append(((x * (w - leg) / 2, y * (w - leg) / 2, h / 2), (leg, leg, h)))
    return _assemble(rng, textures, foot, yaw, parts, sample_material(rng, textures, w))


def _sample_sofa(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    w, d = rng.uniform(0.8, 2.4), rng.uniform(0.7, 1.0)
    parts: list[Part] = [
        ((0.0, 0.0, 0.22), (d, w, 0.44)),
        ((-d / 2 + 0.12, 0.0, 0.45), (0.24, w, 0.9)),
        ((0.0, w / 2 - 0.08, 0.3), (d, 0.16, 0.6)),
        ((0.0, -w / 2 + 0.08, 0.3), (d, 0.16, 0.6)),
    ]
    return _assemble(rng, textures, foot, yaw, parts, sample_material(rng, textures, 1.0))


def _sample_shelf(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    w, d, h = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.5), rng.uniform(0.8, 2.2)
    levels = int(rng.integers(2, 6))
    parts: list[Part] = [((-d / 2, 0.0, h / 2), (0.03, w, h))]
    parts += [((0.0, side * w / 2, h / 2), (d, 0.03, h)) for side in (-1, 1)]
    parts += [((0.0, 0.0, h * k / levels), (d, w, 0.03)) for k in range(levels + 1)]
    solids = _assemble(rng, textures, foot, yaw, parts, sample_material(rng, textures, w))
    for k in range(levels):
        if rng.random() < 0.6:
            size = (d * 0.7, w * rng.uniform(0.2, 0.8), h / levels * rng.uniform(0.4, 0.8))
            books: list[Part] = [((0.0, rng.uniform(-0.1, 0.1) * w, h * k / levels + size[2] / 2), size)]
            solids += _assemble(rng, textures, foot, yaw, books, sample_material(rng, textures, 0.3))
    return solids


def sample_cabinet(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    """Draw a closed box of the size of a cabinet."""
    size = (rng.uniform(0.4, 0.7), rng.uniform(0.4, 1.6), rng.uniform(0.4, 2.1))
    parts: list[Part] = [((0.0, 0.0, size[2] / 2), size)]
    return _assemble(rng, textures, foot, yaw, parts, sample_material(rng, textures, 1.0))


def sample_person(rng: np.random.Generator, textures: int, foot: Vector, yaw: float) -> list[Solid]:
    """Draw a person: two legs, a trunk, arms and a head, as ellipsoids and cylinders."""
    h = rng.uniform(1.5, 1.9)
    clothes, trousers, skin = (sample_material(rng, textures, 0.5, dull=True) for _ in range(3))
    turn, at = rotation_about_z(yaw), torch.tensor(foot)
    body = [
        ("cylinder", (0.0, 0.1, 0.24 * h), (0.08, 0.08, 0.24 * h), trousers),
        ("cylinder", (rng.uniform(-0.2, 0.2), -0.1, 0.24 * h), (0.08, 0.08, 0.24 * h), trousers),
        ("superquadric", (0.0, 0.0, 0.65 * h), (0.13, 0.22, 0.19 * h), clothes),
        ("ellipsoid", (0.05, 0.27, 0.62 * h), (0.06, 0.06, 0.18 * h), clothes),
        ("ellipsoid", (0.05, -0.27, 0.62 * h), (0.06, 0.06, 0.18 * h), clothes),
        ("ellipsoid", (0.0, 0.0, 0.92 * h), (0.1, 0.09, 0.075 * h), skin),
    ]
    return [
        Solid(kind, turn @ torch.tensor(centre) + at, torch.tensor(half), material, turn, exponent=3.0)
        for kind, centre, half, material in body
    ]


FURNITURE = {
    _sample_table: 0.2,
    _sample_chair: 0.25,
    _sample_sofa: 0.15,
    _sample_shelf: 0.1,
    sample_cabinet: 0.2,
    sample_person: 0.1,
}
"""What stands in a room, with probabilities."""


def sample_thing(rng: np.random.Generator, textures: int, x: float, y: float, z: float, size: float) -> Solid:
    """Draw a small object of a random kind, about `size` metres, that stands at height z."""
    half = size * rng.uniform(0.25, 0.6, 3)
    kind = str(rng.choice(["box", "ellipsoid", "cylinder", "superquadric"]))
    rotation = rotation_about_z(rng.uniform(0, math.pi))
    if kind in ("ellipsoid", "superquadric") and rng.random() < 0.3:
        rotation = _sample_rotation(rng)
        half[:] = half.mean() * rng.uniform(0.8, 1.2, 3)
    elif kind == "cylinder":
        half[1] = half[0]
        half[2] *= rng.uniform(0.5, 2.0)
    elif rng.random() < 0.3:
        half[:] = half[0]
    return Solid(
        kind,
        torch.tensor([x, y, z + float(half[2])], dtype=torch.float32),
        torch.from_numpy(half.astype(np.float32)),
        sample_material(rng, textures, size),
        rotation,
        exponent=float(rng.uniform(2.5, 8.0)),
    )


def sample_car(rng: np.random.Generator, textures: int, x: float, y: float, yaw: float) -> list[Solid]:
    """Draw a car: a body, a dark cabin and four wheels."""
    length, wide, high = rng.uniform(3.6, 5.0), rng.uniform(1.6, 2.0), rng.uniform(1.35, 2.2)
    paint = sample_material(rng, textures, 6.0)
    dark = Material(int(rng.integers(textures)), 1.0, (0.08, 0.08, 0.09), 0.4, 32.0)
    turn, at = rotation_about_z(yaw), torch.tensor([x, y, 0.0], dtype=torch.float32)
    parts = [
        ("superquadric", (0.0, 0.0, 0.32 * high), (length / 2, wide / 2, 0.25 * high), paint),
        ("superquadric", (-0.05 * length, 0.0, 0.7 * high), (0.3 * length, 0.45 * wide, 0.3 * high), dark),
    ]
    solids = [
        Solid(kind, turn @ torch.tensor(centre) + at, torch.tensor(half), material, turn, exponent=6.0)
        for kind, centre, half, material in parts
    ]
    for sx in (-0.32, 0.32):
        for sy in (-0.46, 0.46):
            wheel = turn @ torch.tensor([sx * length, sy * wide, 0.32]) + at
            solids.append(Solid("ellipsoid", wheel, torch.tensor([0.33, 0.12, 0.33]), dark, turn))
    return solids
