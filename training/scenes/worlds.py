"""Random worlds: rooms, streets, table tops and open ground, as a robot might meet them.

Each `draw_*` turns a random generator and a camera size into a scene. Proportions are
those of real things (a table is about 0.75 m high, a door 2 m), because a single picture
tells depth mostly through what things usually are.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.camera import Intrinsics
from training.scenes.render import Light, Scene
from training.scenes.solids import Material, Solid

__all__ = ["WORLDS", "draw_scene"]

Colour = tuple[float, float, float]


def _grey(rng: np.random.Generator, low: float, high: float, tinge: float = 0.1) -> Colour:
    """A colour of random brightness with a slight cast."""
    base = rng.uniform(low, high)
    r, g, b = base * (1.0 + tinge * rng.uniform(-1.0, 1.0, 3))
    return float(r), float(g), float(b)


def _material(rng: np.random.Generator, textures: int, size: float, dull: bool = False) -> Material:
    """A random surface; `size` is the length in metres of what it covers."""
    tint = _grey(rng, 0.25, 1.2, tinge=0.15 if dull else 0.5)
    glossy = rng.random() < (0.15 if dull else 0.4)
    return Material(
        texture=int(rng.integers(textures)),
        repeat=float(size * rng.uniform(0.15, 1.5)),
        tint=tint,
        specular=float(rng.uniform(0.05, 0.5)) if glossy else 0.0,
        shininess=float(2.0 ** rng.uniform(3, 6)),
    )


def _turn(yaw: float) -> Tensor:
    """Rotation about the world's z axis, radians."""
    c, s = math.cos(yaw), math.sin(yaw)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def _any_rotation(rng: np.random.Generator) -> Tensor:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return torch.from_numpy((q * np.sign(np.linalg.det(q))).astype(np.float32))


def _look(yaw: float, pitch: float, roll: float) -> Tensor:
    """Camera axes (right, down, forward as columns) of a view; pitch > 0 looks down."""
    forward = torch.tensor(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)]
    )
    right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
    down = torch.linalg.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return torch.stack((c * right + s * down, c * down - s * right, forward), dim=1)


def _camera(rng: np.random.Generator, width: int, height: int, low: float, high: float) -> Intrinsics:
    """A pinhole camera with a horizontal field of view between two angles (degrees)."""
    focal = 0.5 * width / math.tan(0.5 * math.radians(rng.uniform(low, high)))
    return Intrinsics.centred(focal, width, height)


def _white(rng: np.random.Generator, power: float) -> Colour:
    """Light of a power, warm or cold."""
    warmth = rng.uniform(-0.2, 0.2)
    return float(power * (1 + warmth)), float(power), float(power * (1 - warmth))


def _box(
    rng: np.random.Generator, textures: int, centre: tuple[float, float, float],
    size: tuple[float, float, float], yaw: float = 0.0, material: Material | None = None,
) -> Solid:  # fmt: skip
    """An upright box of a full size, its frame turned by yaw."""
    return Solid(
        "box",
        torch.tensor(centre, dtype=torch.float32),
        0.5 * torch.tensor(size, dtype=torch.float32),
        material or _material(rng, textures, max(size)),
        _turn(yaw),
    )


def _assemble(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float,
    parts: list[tuple[tuple[float, float, float], tuple[float, float, float]]], material: Material,
) -> list[Solid]:  # fmt: skip
    """Boxes given as (centre, size) in a piece of furniture's own frame, put at its foot."""
    turn = _turn(yaw)
    solids = []
    for centre, size in parts:
        at = turn @ torch.tensor(centre, dtype=torch.float32) + torch.tensor(foot)
        solids.append(_box(rng, textures, tuple(at.tolist()), size, yaw, material))
    return solids


def _table(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    w, d, h = rng.uniform(0.6, 1.8), rng.uniform(0.5, 1.0), rng.uniform(0.4, 0.9)
    leg = rng.uniform(0.04, 0.1)
    parts = [((0.0, 0.0, h), (w, d, 0.05))]
    for x in (-1, 1):
        for y in (-1, 1):
            at = (x * (w - leg) / 2, y * (d - leg) / 2, h / 2)
            parts.append((at, (leg, leg, h)))
    return _assemble(rng, textures, foot, yaw, parts, _material(rng, textures, w))


def _chair(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    w, h, leg = rng.uniform(0.4, 0.55), rng.uniform(0.42, 0.5), 0.04
    parts = [((0.0, 0.0, h), (w, w, 0.05)), ((-w / 2, 0.0, h + 0.25), (0.04, w, 0.5))]
    for x in (-1, 1):
        for y in (-1, 1):
            parts.append(((x * (w - leg) / 2, y * (w - leg) / 2, h / 2), (leg, leg, h)))
    return _assemble(rng, textures, foot, yaw, parts, _material(rng, textures, w))


def _sofa(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    w, d = rng.uniform(0.8, 2.4), rng.uniform(0.7, 1.0)
    parts = [
        ((0.0, 0.0, 0.22), (d, w, 0.44)),
        ((-d / 2 + 0.12, 0.0, 0.45), (0.24, w, 0.9)),
        ((0.0, w / 2 - 0.08, 0.3), (d, 0.16, 0.6)),
        ((0.0, -w / 2 + 0.08, 0.3), (d, 0.16, 0.6)),
    ]
    return _assemble(rng, textures, foot, yaw, parts, _material(rng, textures, 1.0))


def _shelf(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    w, d, h = rng.uniform(0.6, 1.6), rng.uniform(0.25, 0.5), rng.uniform(0.8, 2.2)
    levels = int(rng.integers(2, 6))
    parts = [((-d / 2, 0.0, h / 2), (0.03, w, h))]
    parts += [((0.0, side * w / 2, h / 2), (d, 0.03, h)) for side in (-1, 1)]
    parts += [((0.0, 0.0, h * k / levels), (d, w, 0.03)) for k in range(levels + 1)]
    solids = _assemble(rng, textures, foot, yaw, parts, _material(rng, textures, w))
    for k in range(levels):
        if rng.random() < 0.6:
            size = (d * 0.7, w * rng.uniform(0.2, 0.8), h / levels * rng.uniform(0.4, 0.8))
            books = [((0.0, rng.uniform(-0.1, 0.1) * w, h * k / levels + size[2] / 2), size)]
            solids += _assemble(rng, textures, foot, yaw, books, _material(rng, textures, 0.3))
    return solids


def _cabinet(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    size = (rng.uniform(0.4, 0.7), rng.uniform(0.4, 1.6), rng.uniform(0.4, 2.1))
    parts = [((0.0, 0.0, size[2] / 2), size)]
    return _assemble(rng, textures, foot, yaw, parts, _material(rng, textures, 1.0))


def _person(
    rng: np.random.Generator, textures: int, foot: tuple[float, float, float], yaw: float
) -> list[Solid]:
    """Two legs, a trunk, arms and a head: ellipsoids and cylinders."""
    h = rng.uniform(1.5, 1.9)
    clothes, trousers, skin = (_material(rng, textures, 0.5, dull=True) for _ in range(3))
    turn, at = _turn(yaw), torch.tensor(foot)
    body = [
        ("cylinder", (0.0, 0.1, 0.24 * h), (0.08, 0.08, 0.24 * h), trousers),
        ("cylinder", (rng.uniform(-0.2, 0.2), -0.1, 0.24 * h), (0.08, 0.08, 0.24 * h), trousers),
        ("superquadric", (0.0, 0.0, 0.65 * h), (0.13, 0.22, 0.19 * h), clothes),
        ("ellipsoid", (0.05, 0.27, 0.62 * h), (0.06, 0.06, 0.18 * h), clothes),
        ("ellipsoid", (0.05, -0.27, 0.62 * h), (0.06, 0.06, 0.18 * h), clothes),
        ("ellipsoid", (0.0, 0.0, 0.92 * h), (0.1, 0.09, 0.075 * h), skin),
    ]
    return [
        Solid(kind, turn @ torch.tensor(centre) + at, torch.tensor(half), material, turn,
              exponent=3.0)
        for kind, centre, half, material in body
    ]  # fmt: skip


def _thing(rng: np.random.Generator, textures: int, x: float, y: float, z: float, size: float) -> Solid:
    """A small body of a random kind standing on height z, about `size` metres."""
    half = size * rng.uniform(0.25, 0.6, 3)
    kind = str(rng.choice(["box", "ellipsoid", "cylinder", "superquadric"]))
    rotation = _turn(rng.uniform(0, math.pi))
    if kind in ("ellipsoid", "superquadric") and rng.random() < 0.3:
        rotation = _any_rotation(rng)
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
        _material(rng, textures, size),
        rotation,
        exponent=float(rng.uniform(2.5, 8.0)),
    )


def draw_room(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """A furnished room or corridor seen at the height of a robot or a person."""
    corridor = rng.random() < 0.15
    half_x = rng.uniform(2.5, 8.0) if corridor else rng.uniform(1.5, 5.0)
    half_y = rng.uniform(0.6, 1.3) if corridor else rng.uniform(1.5, 4.0)
    top = rng.uniform(2.2, 3.5)
    room = (half_x, half_y, top / 2)
    solids = [
        Solid("room", torch.tensor([0.0, 0.0, top / 2]), torch.tensor(room),
              _material(rng, textures, 2.0, dull=True)),
        _box(rng, textures, (0.0, 0.0, 0.0), (2 * half_x, 2 * half_y, 0.002),
             material=_material(rng, textures, 1.5, dull=True)),
        _box(rng, textures, (0.0, 0.0, top), (2 * half_x, 2 * half_y, 0.002),
             material=Material(int(rng.integers(textures)), 2.0, _grey(rng, 0.6, 1.3))),
    ]  # fmt: skip
    # One wall in another material, and flat things on the walls: pictures, doors, windows.
    for _ in range(int(rng.integers(1, 7))):
        along_x = rng.random() < 0.5
        side = rng.choice([-1.0, 1.0])
        door = rng.random() < 0.3
        tall, wide = (2.0, 0.9) if door else (rng.uniform(0.3, 1.4), rng.uniform(0.3, 1.8))
        up = 1.0 if door else rng.uniform(1.0, max(1.1, top - 0.7))
        thick = rng.uniform(0.02, 0.12)
        if along_x:
            at = (rng.uniform(-half_x, half_x), side * half_y, up)
            size = (wide, thick, tall)
        else:
            at = (side * half_x, rng.uniform(-half_y, half_y), up)
            size = (thick, wide, tall)
        solids.append(_box(rng, textures, at, size))

    yaw = rng.uniform(-0.25, 0.25) if corridor else rng.uniform(-math.pi, math.pi)
    back = 0.85 * half_x if corridor else rng.uniform(0.3, 0.9) * min(half_x, half_y)
    position = torch.tensor(
        [-back * math.cos(yaw), -back * math.sin(yaw), rng.uniform(0.3, min(1.9, top - 0.3))]
    )
    furniture = [_table, _chair, _sofa, _shelf, _cabinet, _person]
    for _ in range(int(rng.integers(0, 3) if corridor else rng.integers(3, 14))):
        make = furniture[int(rng.choice(len(furniture), p=[0.2, 0.25, 0.15, 0.1, 0.2, 0.1]))]
        x, y = rng.uniform(-half_x, half_x) * 0.92, rng.uniform(-half_y, half_y) * 0.92
        if math.hypot(x - float(position[0]), y - float(position[1])) > 0.9:
            turn = rng.choice([0.0, 0.5, 1.0, 1.5]) * math.pi + rng.normal() * 0.2
            solids += make(rng, textures, (x, y, 0.0), float(turn))
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(-half_x, half_x) * 0.9, rng.uniform(-half_y, half_y) * 0.9
        if math.hypot(x - float(position[0]), y - float(position[1])) > 0.6:
            solids.append(_thing(rng, textures, x, y, 0.0, rng.uniform(0.15, 0.6)))
    lamps = tuple(
        Light(
            torch.tensor([rng.uniform(-half_x, half_x) * 0.8, rng.uniform(-half_y, half_y) * 0.8,
                          top * rng.uniform(0.7, 0.97)], dtype=torch.float32),
            _white(rng, rng.uniform(0.3, 0.8)),
            shadow=first == 0,
        )
        for first in range(int(rng.integers(1, 3)))
    )  # fmt: skip
    return Scene(
        "room", tuple(solids), lamps, _white(rng, rng.uniform(0.2, 0.6)), position,
        _look(yaw, math.radians(rng.normal(8.0, 12.0)), math.radians(rng.normal(0.0, 3.0))),
        _camera(rng, width, height, 45.0, 80.0), sky=(0.5, 0.6, 0.8),
    )  # fmt: skip


def _car(rng: np.random.Generator, textures: int, x: float, y: float, yaw: float) -> list[Solid]:
    length, wide, high = rng.uniform(3.6, 5.0), rng.uniform(1.6, 2.0), rng.uniform(1.35, 2.2)
    paint = _material(rng, textures, 6.0)
    dark = Material(int(rng.integers(textures)), 1.0, (0.08, 0.08, 0.09), 0.4, 32.0)
    turn, at = _turn(yaw), torch.tensor([x, y, 0.0], dtype=torch.float32)
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


def draw_street(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """A street between facades or trees, seen from a pavement or from a vehicle."""
    road = Material(int(rng.integers(textures)), rng.uniform(1, 8), _grey(rng, 0.15, 0.7))
    half_road = rng.uniform(3.0, 8.0)
    solids = [Solid("box", torch.tensor([0.0, 0.0, -0.5]), torch.tensor([400.0, 400.0, 0.5]), road)]
    for side in (-1.0, 1.0):
        kerb = Material(int(rng.integers(textures)), rng.uniform(0.5, 3), _grey(rng, 0.3, 1.0))
        solids.append(_box(rng, textures, (50.0, side * (half_road + 2.0), 0.0),
                           (160.0, 4.0, 0.24), material=kerb))  # fmt: skip
        x, gap = -10.0, rng.uniform(2.0, 6.0)
        kind = rng.choice(["houses", "trees", "both", "open"], p=[0.45, 0.2, 0.25, 0.1])
        while x < 90.0 and kind in ("houses", "both"):
            long, deep, tall = rng.uniform(6, 25), rng.uniform(6, 15), rng.uniform(4, 25)
            at = (x + long / 2, side * (half_road + gap + deep / 2 + rng.uniform(0, 2)), tall / 2)
            facade = _material(rng, textures, rng.uniform(2.0, 12.0), dull=True)
            solids.append(_box(rng, textures, at, (long, deep, tall), material=facade))
            x += long + (rng.uniform(1, 8) if rng.random() < 0.4 else 0.0)
        x = rng.uniform(2.0, 8.0)
        while x < 60.0:
            y = side * (half_road + rng.uniform(0.3, 1.2))
            what = rng.random()
            if kind in ("trees", "both") and what < 0.6:
                trunk = rng.uniform(1.5, 4.0)
                bark = _material(rng, textures, 0.5, dull=True)
                green = Material(int(rng.integers(textures)), 1.0,
                                 (0.2, rng.uniform(0.3, 0.6), 0.12))  # fmt: skip
                crown = rng.uniform(1.0, 2.8, 3).astype(np.float32)
                solids.append(Solid("cylinder", torch.tensor([x, y, trunk / 2]),
                                    torch.tensor([0.15, 0.15, trunk / 2]), bark))  # fmt: skip
                solids.append(Solid("ellipsoid", torch.tensor([x, y, trunk + float(crown[2]) * 0.7]),
                                    torch.from_numpy(crown), green))  # fmt: skip
            elif what < 0.8:
                tall = rng.uniform(2.0, 7.0)
                solids.append(Solid("cylinder", torch.tensor([x, y, tall / 2]),
                                    torch.tensor([0.07, 0.07, tall / 2]),
                                    _material(rng, textures, 1.0, dull=True)))  # fmt: skip
            x += rng.uniform(4.0, 14.0)
    lane = rng.uniform(-0.7, 0.7) * half_road
    for _ in range(int(rng.integers(1, 8))):
        x, y = rng.uniform(5.0, 45.0), rng.choice([-0.75, -0.3, 0.3, 0.75]) * half_road
        if abs(y - lane) > 1.8 or x > 8.0:
            solids += _car(rng, textures, x, y, rng.choice([0.0, math.pi]) + rng.normal() * 0.05)
    for _ in range(int(rng.integers(0, 5))):
        foot = (rng.uniform(3.0, 25.0), rng.uniform(-1.0, 1.0) * (half_road + 3.0), 0.0)
        if abs(foot[1] - lane) > 0.8 or foot[0] > 4.0:
            solids += _person(rng, textures, foot, rng.uniform(0, 2 * math.pi))
    sun = torch.from_numpy(rng.normal(size=3).astype(np.float32))
    sun[2] = sun[2].abs() + 0.3
    overcast = rng.random() < 0.4
    light = Light(
        sun / sun.norm(), _white(rng, 0.25 if overcast else rng.uniform(0.5, 1.0)), directional=True
    )
    zenith = (
        _grey(rng, 0.6, 0.9, 0.05) if overcast else (rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.55), 0.85)
    )
    return Scene(
        "street", tuple(solids), (light,), _white(rng, rng.uniform(0.35, 0.7)),
        torch.tensor([0.0, lane, rng.uniform(0.5, 2.0)], dtype=torch.float32),
        _look(rng.normal() * 0.2, math.radians(rng.normal(2.0, 4.0)), math.radians(rng.normal(0.0, 1.5))),
        _camera(rng, width, height, 50.0, 85.0), sky=zenith,
        haze=float(rng.choice([0.0, 0.003, 0.01])),
    )  # fmt: skip


def draw_table(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Things on a table top, in a room, seen from close above."""
    half_x, half_y, top = rng.uniform(1.5, 4.0), rng.uniform(1.5, 4.0), 2.6
    surface = rng.uniform(0.4, 1.0)
    size = (rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0), rng.uniform(0.02, 0.3))
    solids = [
        Solid("room", torch.tensor([0.0, 0.0, top / 2]), torch.tensor([half_x, half_y, top / 2]),
              _material(rng, textures, 2.0, dull=True)),
        _box(rng, textures, (0.0, 0.0, 0.0), (2 * half_x, 2 * half_y, 0.002)),
        _box(rng, textures, (0.0, 0.0, surface - size[2] / 2), size, rng.uniform(-1, 1)),
    ]  # fmt: skip
    reach = 0.4 * min(size[:2])
    for _ in range(int(rng.integers(3, 18))):
        x, y = rng.uniform(-reach, reach, 2)
        solids.append(_thing(rng, textures, x, y, surface, rng.uniform(0.04, 0.25)))
    for _ in range(int(rng.integers(0, 4))):
        foot = (rng.uniform(-half_x, half_x) * 0.9, rng.uniform(-half_y, half_y) * 0.9, 0.0)
        if math.hypot(*foot[:2]) > 1.4:
            solids += _cabinet(rng, textures, foot, rng.uniform(0, math.pi))
    yaw, pitch = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(12.0, 80.0))
    distance = rng.uniform(0.4, 1.2)
    position = torch.tensor(
        [-distance * math.cos(yaw) * math.cos(pitch), -distance * math.sin(yaw) * math.cos(pitch),
         surface + distance * math.sin(pitch)], dtype=torch.float32,
    )  # fmt: skip
    lamp = Light(
        torch.tensor(
            [rng.uniform(-1.4, 1.4), rng.uniform(-1.4, 1.4), rng.uniform(1.6, 2.5)], dtype=torch.float32
        ),
        _white(rng, rng.uniform(0.4, 0.9)),
    )
    return Scene(
        "table", tuple(solids), (lamp,), _white(rng, rng.uniform(0.2, 0.6)), position,
        _look(yaw, pitch + rng.normal() * 0.08, math.radians(rng.normal(0.0, 4.0))),
        _camera(rng, width, height, 40.0, 75.0), sky=(0.5, 0.6, 0.8),
    )  # fmt: skip


def _hills(rng: np.random.Generator, side: int, rough: float) -> Tensor:
    """Smooth random heights of several wavelengths: (side, side) metres."""
    total = torch.zeros(side, side)
    for cells, amount in ((4, 1.0), (8, 0.5), (16, 0.25), (48, 0.08)):
        grid = torch.from_numpy(rng.normal(size=(1, 1, cells, cells)).astype(np.float32))
        total += amount * interpolate(grid, size=(side, side), mode="bicubic")[0, 0]
    return total * rough


def draw_terrain(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Uneven open ground with stones, bushes and trunks on it."""
    reach, rough = rng.uniform(15.0, 40.0), rng.uniform(0.02, 0.6)
    heights = _hills(rng, 160, rough)
    heights -= heights[75:85, 75:85].mean()
    ground = Material(int(rng.integers(textures)), rng.uniform(0.5, 6.0), _grey(rng, 0.3, 1.0, 0.3))
    solids = [Solid("terrain", torch.zeros(3), torch.tensor([reach, reach, 6.0]), ground, heights=heights)]
    for _ in range(int(rng.integers(3, 25))):
        away, angle = reach * rng.uniform(0.06, 0.8) ** 1.3, rng.uniform(-0.8, 0.8)
        x, y = away * math.cos(angle), away * math.sin(angle)
        cell = [int((c / reach + 1.0) * 79.5) for c in (x, y)]
        z = float(heights[cell[1], cell[0]])
        size = rng.uniform(0.2, 2.5)
        solids.append(_thing(rng, textures, x, y, z - 0.15 * size, size))
    sun = torch.from_numpy(rng.normal(size=3).astype(np.float32))
    sun[2] = sun[2].abs() + 0.3
    return Scene(
        "terrain", tuple(solids),
        (Light(sun / sun.norm(), _white(rng, rng.uniform(0.4, 0.9)), directional=True),),
        _white(rng, rng.uniform(0.3, 0.6)),
        torch.tensor([0.0, 0.0, rng.uniform(0.5, 1.8) + 0.5 * rough], dtype=torch.float32),
        _look(rng.normal() * 0.1, math.radians(rng.normal(8.0, 6.0)), math.radians(rng.normal(0.0, 3.0))),
        _camera(rng, width, height, 50.0, 85.0),
        sky=(rng.uniform(0.15, 0.7), rng.uniform(0.35, 0.7), 0.85),
        haze=float(rng.choice([0.0, 0.005])),
    )  # fmt: skip


WORLDS = {"room": draw_room, "street": draw_street, "table": draw_table, "terrain": draw_terrain}
SHARES = (0.48, 0.2, 0.22, 0.1)
"""How often `draw_scene` picks each of `WORLDS`."""


def draw_scene(seed: int, textures: int, width: int = 192, height: int = 144) -> Scene:
    """The scene of a seed: the same seed and size give the same scene.

    Args:
        seed: any non-negative integer.
        textures: how many textures the atlas holds.
        width, height: size of the picture in pixels.
    """
    rng = np.random.default_rng([seed, 0x5CE7E])
    world = str(rng.choice(list(WORLDS), p=SHARES))
    return WORLDS[world](rng, textures, width, height)
