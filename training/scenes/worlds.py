"""Random worlds: rooms, streets, table tops and open ground, as a robot might meet them.

Each `sample_*` turns a random generator and an image size into a scene.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.camera import PinholeCamera
from training.scenes.objects import (
    FURNITURE,
    make_box,
    sample_cabinet,
    sample_car,
    sample_gray,
    sample_material,
    sample_person,
    sample_thing,
    sample_white,
)
from training.scenes.render import Light, Scene
from training.scenes.solids import Material, Solid

__all__ = ["WORLDS", "sample_scene"]


def _camera_axes(yaw: float, pitch: float, roll: float) -> Tensor:
    """Return the camera's axes (right, down, forward as columns) of a view; pitch > 0 looks down."""
    forward = torch.tensor(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)]
    )
    right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
    down = torch.linalg.cross(forward, right)
    c, s = math.cos(roll), math.sin(roll)
    return torch.stack((c * right + s * down, c * down - s * right, forward), dim=1)


def _sample_camera(
    rng: np.random.Generator, width: int, height: int, low: float, high: float
) -> PinholeCamera:
    """Draw a camera whose horizontal field of view lies between two angles (degrees)."""
    focal = 0.5 * width / math.tan(0.5 * math.radians(rng.uniform(low, high)))
    return PinholeCamera.centered(focal, width, height)


def _sample_sun(rng: np.random.Generator) -> Tensor:
    """Draw a direction towards the sun, above the horizon: (3,)."""
    sun = torch.from_numpy(rng.normal(size=3).astype(np.float32))
    sun[2] = sun[2].abs() + 0.3
    return sun / sun.norm()


def _sample_wall_fitting(
    rng: np.random.Generator, textures: int, half_x: float, half_y: float, top: float
) -> Solid:
    """Draw a flat thing on a wall: a poster, a door or a window."""
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
    return make_box(rng, textures, at, size)


def _sample_furniture(
    rng: np.random.Generator, textures: int, corridor: bool, half_x: float, half_y: float, position: Tensor
) -> list[Solid]:
    """Draw furniture and small things on the floor, none of them right before the camera."""
    solids: list[Solid] = []
    kinds, shares = list(FURNITURE), list(FURNITURE.values())
    for _ in range(int(rng.integers(0, 3) if corridor else rng.integers(3, 14))):
        sample = kinds[int(rng.choice(len(kinds), p=shares))]
        x, y = rng.uniform(-half_x, half_x) * 0.92, rng.uniform(-half_y, half_y) * 0.92
        if math.hypot(x - float(position[0]), y - float(position[1])) > 0.9:
            turn = rng.choice([0.0, 0.5, 1.0, 1.5]) * math.pi + rng.normal() * 0.2
            solids += sample(rng, textures, (x, y, 0.0), float(turn))
    for _ in range(int(rng.integers(0, 6))):
        x, y = rng.uniform(-half_x, half_x) * 0.9, rng.uniform(-half_y, half_y) * 0.9
        if math.hypot(x - float(position[0]), y - float(position[1])) > 0.6:
            solids.append(sample_thing(rng, textures, x, y, 0.0, rng.uniform(0.15, 0.6)))
    return solids


def _sample_lamp(rng: np.random.Generator, half_x: float, half_y: float, top: float, shadow: bool) -> Light:
    x, y = rng.uniform(-half_x, half_x) * 0.8, rng.uniform(-half_y, half_y) * 0.8
    position = torch.tensor([x, y, top * rng.uniform(0.7, 0.97)], dtype=torch.float32)
    return Light(position, sample_white(rng, rng.uniform(0.3, 0.8)), shadow=shadow)


def sample_room(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Draw a furnished room or corridor, seen from the height of a robot or a person."""
    corridor = rng.random() < 0.15
    half_x = rng.uniform(2.5, 8.0) if corridor else rng.uniform(1.5, 5.0)
    half_y = rng.uniform(0.6, 1.3) if corridor else rng.uniform(1.5, 4.0)
    top = rng.uniform(2.2, 3.5)
    walls = sample_material(rng, textures, 2.0, dull=True)
    floor = sample_material(rng, textures, 1.5, dull=True)
    ceiling = Material(int(rng.integers(textures)), 2.0, sample_gray(rng, 0.6, 1.3))
    middle, extent = (0.0, 0.0, top / 2), (half_x, half_y, top / 2)
    flat = (2 * half_x, 2 * half_y, 0.002)
    solids = [
        Solid("room", torch.tensor(middle), torch.tensor(extent), walls),
        make_box(rng, textures, (0.0, 0.0, 0.0), flat, material=floor),
        make_box(rng, textures, (0.0, 0.0, top), flat, material=ceiling),
    ]
    for _ in range(int(rng.integers(1, 7))):
        solids.append(_sample_wall_fitting(rng, textures, half_x, half_y, top))
    yaw = rng.uniform(-0.25, 0.25) if corridor else rng.uniform(-math.pi, math.pi)
    back = 0.85 * half_x if corridor else rng.uniform(0.3, 0.9) * min(half_x, half_y)
    position = torch.tensor(
        [-back * math.cos(yaw), -back * math.sin(yaw), rng.uniform(0.3, min(1.9, top - 0.3))]
    )
    solids += _sample_furniture(rng, textures, corridor, half_x, half_y, position)
    lamps = tuple(
        _sample_lamp(rng, half_x, half_y, top, shadow=number == 0)
        for number in range(int(rng.integers(1, 3)))
    )
    return Scene(
        "room",
        tuple(solids),
        lamps,
        sample_white(rng, rng.uniform(0.2, 0.6)),
        position,
        _camera_axes(yaw, math.radians(rng.normal(8.0, 12.0)), math.radians(rng.normal(0.0, 3.0))),
        _sample_camera(rng, width, height, 45.0, 80.0),
        sky=(0.5, 0.6, 0.8),
    )


def _sample_tree(rng: np.random.Generator, textures: int, x: float, y: float) -> list[Solid]:
    trunk = rng.uniform(1.5, 4.0)
    bark = sample_material(rng, textures, 0.5, dull=True)
    green = Material(int(rng.integers(textures)), 1.0, (0.2, rng.uniform(0.3, 0.6), 0.12))
    crown = rng.uniform(1.0, 2.8, 3).astype(np.float32)
    return [
        Solid("cylinder", torch.tensor([x, y, trunk / 2]), torch.tensor([0.15, 0.15, trunk / 2]), bark),
        Solid(
            "ellipsoid",
            torch.tensor([x, y, trunk + float(crown[2]) * 0.7]),
            torch.from_numpy(crown),
            green,
        ),
    ]


def _sample_post(rng: np.random.Generator, textures: int, x: float, y: float) -> Solid:
    tall = rng.uniform(2.0, 7.0)
    material = sample_material(rng, textures, 1.0, dull=True)
    return Solid("cylinder", torch.tensor([x, y, tall / 2]), torch.tensor([0.07, 0.07, tall / 2]), material)


def _sample_roadside(rng: np.random.Generator, textures: int, side: float, half_road: float) -> list[Solid]:
    """Draw one side of a street: the pavement, facades, trees and posts."""
    kerb = Material(int(rng.integers(textures)), rng.uniform(0.5, 3), sample_gray(rng, 0.3, 1.0))
    pavement = (50.0, side * (half_road + 2.0), 0.0)
    solids = [make_box(rng, textures, pavement, (160.0, 4.0, 0.24), material=kerb)]
    x, gap = -10.0, rng.uniform(2.0, 6.0)
    kind = rng.choice(["houses", "trees", "both", "open"], p=[0.45, 0.2, 0.25, 0.1])
    while x < 90.0 and kind in ("houses", "both"):
        long, deep, tall = rng.uniform(6, 25), rng.uniform(6, 15), rng.uniform(4, 25)
        at = (x + long / 2, side * (half_road + gap + deep / 2 + rng.uniform(0, 2)), tall / 2)
        facade = sample_material(rng, textures, rng.uniform(2.0, 12.0), dull=True)
        solids.append(make_box(rng, textures, at, (long, deep, tall), material=facade))
        x += long + (rng.uniform(1, 8) if rng.random() < 0.4 else 0.0)
    x = rng.uniform(2.0, 8.0)
    while x < 60.0:
        y = side * (half_road + rng.uniform(0.3, 1.2))
        chance = rng.random()
        if kind in ("trees", "both") and chance < 0.6:
            solids += _sample_tree(rng, textures, x, y)
        elif chance < 0.8:
            solids.append(_sample_post(rng, textures, x, y))
        x += rng.uniform(4.0, 14.0)
    return solids


def _sample_traffic(rng: np.random.Generator, textures: int, lane: float, half_road: float) -> list[Solid]:
    """Draw cars and people, none of them right before the camera."""
    solids: list[Solid] = []
    for _ in range(int(rng.integers(1, 8))):
        x, y = rng.uniform(5.0, 45.0), rng.choice([-0.75, -0.3, 0.3, 0.75]) * half_road
        if abs(y - lane) > 1.8 or x > 8.0:
            solids += sample_car(rng, textures, x, y, rng.choice([0.0, math.pi]) + rng.normal() * 0.05)
    for _ in range(int(rng.integers(0, 5))):
        foot = (rng.uniform(3.0, 25.0), rng.uniform(-1.0, 1.0) * (half_road + 3.0), 0.0)
        if abs(foot[1] - lane) > 0.8 or foot[0] > 4.0:
            solids += sample_person(rng, textures, foot, rng.uniform(0, 2 * math.pi))
    return solids


def sample_street(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Draw a street between facades or trees, seen from a pavement or from a vehicle."""
    road = Material(int(rng.integers(textures)), rng.uniform(1, 8), sample_gray(rng, 0.15, 0.7))
    half_road = rng.uniform(3.0, 8.0)
    solids = [Solid("box", torch.tensor([0.0, 0.0, -0.5]), torch.tensor([400.0, 400.0, 0.5]), road)]
    for side in (-1.0, 1.0):
        solids += _sample_roadside(rng, textures, side, half_road)
    lane = rng.uniform(-0.7, 0.7) * half_road
    solids += _sample_traffic(rng, textures, lane, half_road)
    sun = _sample_sun(rng)
    overcast = rng.random() < 0.4
    power = 0.25 if overcast else rng.uniform(0.5, 1.0)
    light = Light(sun, sample_white(rng, power), directional=True)
    if overcast:
        zenith = sample_gray(rng, 0.6, 0.9, 0.05)
    else:
        zenith = (rng.uniform(0.15, 0.4), rng.uniform(0.35, 0.55), 0.85)
    return Scene(
        "street",
        tuple(solids),
        (light,),
        sample_white(rng, rng.uniform(0.35, 0.7)),
        torch.tensor([0.0, lane, rng.uniform(0.5, 2.0)], dtype=torch.float32),
        _camera_axes(
            rng.normal() * 0.2, math.radians(rng.normal(2.0, 4.0)), math.radians(rng.normal(0.0, 1.5))
        ),
        _sample_camera(rng, width, height, 50.0, 85.0),
        sky=zenith,
        haze=float(rng.choice([0.0, 0.003, 0.01])),
    )


def sample_table(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Draw things on a table top, in a room, seen from close above."""
    half_x, half_y, top = rng.uniform(1.5, 4.0), rng.uniform(1.5, 4.0), 2.6
    surface = rng.uniform(0.4, 1.0)
    size = (rng.uniform(0.5, 2.0), rng.uniform(0.5, 2.0), rng.uniform(0.02, 0.3))
    walls = sample_material(rng, textures, 2.0, dull=True)
    solids = [
        Solid("room", torch.tensor([0.0, 0.0, top / 2]), torch.tensor([half_x, half_y, top / 2]), walls),
        make_box(rng, textures, (0.0, 0.0, 0.0), (2 * half_x, 2 * half_y, 0.002)),
        make_box(rng, textures, (0.0, 0.0, surface - size[2] / 2), size, rng.uniform(-1, 1)),
    ]
    reach = 0.4 * min(size[:2])
    for _ in range(int(rng.integers(3, 18))):
        x, y = rng.uniform(-reach, reach, 2)
        solids.append(sample_thing(rng, textures, x, y, surface, rng.uniform(0.04, 0.25)))
    for _ in range(int(rng.integers(0, 4))):
        foot = (rng.uniform(-half_x, half_x) * 0.9, rng.uniform(-half_y, half_y) * 0.9, 0.0)
        if math.hypot(*foot[:2]) > 1.4:
            solids += sample_cabinet(rng, textures, foot, rng.uniform(0, math.pi))
    yaw, pitch = rng.uniform(-math.pi, math.pi), math.radians(rng.uniform(12.0, 80.0))
    distance = rng.uniform(0.4, 1.2)
    x, y = -distance * math.cos(yaw) * math.cos(pitch), -distance * math.sin(yaw) * math.cos(pitch)
    position = torch.tensor([x, y, surface + distance * math.sin(pitch)], dtype=torch.float32)
    lamp = Light(
        torch.tensor(
            [rng.uniform(-1.4, 1.4), rng.uniform(-1.4, 1.4), rng.uniform(1.6, 2.5)], dtype=torch.float32
        ),
        sample_white(rng, rng.uniform(0.4, 0.9)),
    )
    return Scene(
        "table",
        tuple(solids),
        (lamp,),
        sample_white(rng, rng.uniform(0.2, 0.6)),
        position,
        _camera_axes(yaw, pitch + rng.normal() * 0.08, math.radians(rng.normal(0.0, 4.0))),
        _sample_camera(rng, width, height, 40.0, 75.0),
        sky=(0.5, 0.6, 0.8),
    )


def _sample_hills(rng: np.random.Generator, side: int, rough: float) -> Tensor:
    """Draw smooth heights of several wavelengths: (side, side), metres."""
    total = torch.zeros(side, side)
    for cells, amount in ((4, 1.0), (8, 0.5), (16, 0.25), (48, 0.08)):
        grid = torch.from_numpy(rng.normal(size=(1, 1, cells, cells)).astype(np.float32))
        total += amount * interpolate(grid, size=(side, side), mode="bicubic")[0, 0]
    return total * rough


def sample_terrain(rng: np.random.Generator, textures: int, width: int, height: int) -> Scene:
    """Draw uneven open ground with stones, bushes and trunks."""
    reach, rough = rng.uniform(15.0, 40.0), rng.uniform(0.02, 0.6)
    heights = _sample_hills(rng, 160, rough)
    heights -= heights[75:85, 75:85].mean()
    ground = Material(int(rng.integers(textures)), rng.uniform(0.5, 6.0), sample_gray(rng, 0.3, 1.0, 0.3))
    solids = [Solid("terrain", torch.zeros(3), torch.tensor([reach, reach, 6.0]), ground, heights=heights)]
    for _ in range(int(rng.integers(3, 25))):
        away, angle = reach * rng.uniform(0.06, 0.8) ** 1.3, rng.uniform(-0.8, 0.8)
        x, y = away * math.cos(angle), away * math.sin(angle)
        cell = [int((c / reach + 1.0) * 79.5) for c in (x, y)]
        z = float(heights[cell[1], cell[0]])
        size = rng.uniform(0.2, 2.5)
        solids.append(sample_thing(rng, textures, x, y, z - 0.15 * size, size))
    sun = _sample_sun(rng)
    return Scene(
        "terrain",
        tuple(solids),
        (Light(sun, sample_white(rng, rng.uniform(0.4, 0.9)), directional=True),),
        sample_white(rng, rng.uniform(0.3, 0.6)),
        torch.tensor([0.0, 0.0, rng.uniform(0.5, 1.8) + 0.5 * rough], dtype=torch.float32),
        _camera_axes(
            rng.normal() * 0.1, math.radians(rng.normal(8.0, 6.0)), math.radians(rng.normal(0.0, 3.0))
        ),
        _sample_camera(rng, width, height, 50.0, 85.0),
        sky=(rng.uniform(0.15, 0.7), rng.uniform(0.35, 0.7), 0.85),
        haze=float(rng.choice([0.0, 0.005])),
    )


WORLDS = {"room": sample_room, "street": sample_street, "table": sample_table, "terrain": sample_terrain}
SHARES = (0.48, 0.2, 0.22, 0.1)
"""Probabilities with which `sample_scene` picks each of `WORLDS`."""


def sample_scene(seed: int, textures: int, width: int = 192, height: int = 144) -> Scene:
    """Draw the scene of a seed; the same seed and size give the same scene.

    Args:
        seed: any non-negative integer.
        textures: number of textures in the atlas.
        width, height: size of the image in pixels.
    """
    rng = np.random.default_rng([seed, 0x5CE7E])
    world = str(rng.choice(list(WORLDS), p=SHARES))
    return WORLDS[world](rng, textures, width, height)
