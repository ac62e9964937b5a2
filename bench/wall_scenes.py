"""Scenes of an object before a wall, on which a global scale fit may collapse."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from redepth_ros.core.metric.anchors import Anchors

Map = NDArray[np.float32]

WALLS = [
    (kind, share, tilt, error)
    for kind, shares in (("wall", (0.6, 0.75, 0.85, 0.95)), ("wall and floor", (0.6, 0.8, 0.95)))
    for share in shares
    for tilt in (0, 5, 10, 20)
    for error in (0.02, 0.05, 0.1)
] + [
    (kind, 0.0, 0, error)
    for kind in ("corridor", "ground", "object", "corner")
    for error in (0.02, 0.05, 0.1)
]


def draw_wall(
    kind: str, share: float, tilt: float, error: float, rng: np.random.Generator
) -> tuple[Tensor, Anchors, Map, NDArray[np.bool_]]:
    """Draw a scene of an object at 3 m before a wall at 8 m: disparity, 200 anchors, depth, and the object.

    The disparity is right up to a smooth relative error and a scale and shift of 6 and 0.4.
    """
    row, column = np.mgrid[0:60, 0:80]
    x, y = (column - 39.5) / 60.0, (row - 29.5) / 60.0
    depth = 8.0 / (1.0 + np.tan(np.radians(tilt)) * x)
    floor = np.where(y > 0.02, 1.2 / np.maximum(y, 0.02), np.inf)
    ahead = (np.abs(column - 40) < 9) & (np.abs(row - 36) < 11)
    if kind == "corridor":
        sides = np.minimum(1.0 / np.maximum(np.abs(x), 0.02), 1.3 / np.maximum(-y, 0.02))
        depth = np.minimum(np.minimum(floor, sides), 20.0)
    elif kind == "ground":
        depth = np.minimum(floor, 40.0)
    elif kind != "wall":
        depth = np.minimum(floor, depth)
    wall = ~ahead & (floor > depth)
    depth = np.where(ahead, 3.0 + 0.1 * x, depth)
    regions = {
        "corridor": np.ones_like(ahead),
        "ground": ~ahead & (depth < 30.0),
        "object": ahead,
        "corner": (row < 22) & (column < 28),
    }
    if kind in regions:
        places = rng.choice(np.flatnonzero(regions[kind]), 200)
    else:
        held = round(share * 200)
        rest = ahead if kind == "wall" else ~wall
        on_wall, other = (np.flatnonzero(one) for one in (wall, rest))
        places = np.concatenate((rng.choice(on_wall, held), rng.choice(other, 200 - held)))
    coarse = torch.from_numpy(rng.standard_normal((1, 1, 4, 5)))
    smooth = interpolate(coarse, (60, 80), mode="bicubic")[0, 0].numpy()
    smooth = (smooth - smooth.mean()) / smooth.std()
    disparity = torch.from_numpy((6.0 / depth * (1.0 + error * smooth) - 0.4).astype(np.float32))
    measured = depth.ravel()[places] + 0.02 * rng.standard_normal(200)
    anchors = Anchors(*np.divmod(places, 80), measured, 60, 80)
    return disparity, anchors, depth.astype(np.float32), ahead
