"""Solids that rays can hit: boxes, rooms, ellipsoids, cylinders, superquadrics, terrain.

Every `_hit_*` takes rays in the solid's own frame, ``origins + t * directions`` with origins and
directions (..., 3). It returns the smallest t > 0 at which a ray meets the surface (infinity for a
miss) and the outward unit normal there, in the same frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

__all__ = ["Material", "Solid", "hit"]

NEAREST = 1e-3
"""Nearer hits (metres) are the surface on which the ray starts."""


@dataclass(frozen=True)
class Material:
    """Appearance of a surface: a texture, its size on the surface, a tint and the gloss."""

    texture: int
    """Index into the atlas."""
    repeat: float
    """Size of one repetition of the texture, metres."""
    tint: tuple[float, float, float]
    """Factor on the texture's linear red, green and blue."""
    specular: float = 0.0
    """Weight of the Blinn-Phong term."""
    shininess: float = 16.0


@dataclass(frozen=True)
class Solid:
    """One solid of a scene.

    `kind` is `box`, `room` (a box seen from inside), `ellipsoid`, `cylinder` (axis z),
    `superquadric` or `terrain` (heights over a square).
    """

    kind: str
    centre: Tensor
    """Origin of the solid's frame in the world, (3,) metres."""
    half: Tensor
    """Half extents along the solid's axes, (3,) metres."""
    material: Material
    rotation: Tensor = field(default_factory=lambda: torch.eye(3))
    """Columns are the solid's axes in the world, (3, 3)."""
    exponent: float = 2.0
    """Superquadric only: 2 gives an ellipsoid, larger values a box."""
    heights: Tensor | None = None
    """Terrain only: (N, N) heights in metres over -half..half in x (columns) and y (rows)."""


def hit(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intersect rays in the world with a solid.

    Args:
        origins: (..., 3) metres, or (3,) for one common origin.
        directions: (..., 3), of any length, which is the unit of t.

    Returns:
        t (...), infinite for a miss; the unit normal (..., 3) and the point (..., 3) in the solid's
        frame, both arbitrary for a miss.
    """
    origins = (origins - solid.centre) @ solid.rotation
    directions = directions @ solid.rotation
    t, normals = SHAPES[solid.kind](solid, origins, directions)
    points = origins + torch.where(t.isfinite(), t, 0.0).unsqueeze(-1) * directions  # (..., 3)
    return t, normals, points


def _slabs(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return t at which rays enter and leave the three slabs of the bounding box: (..., 3) each."""
    inverse = 1.0 / torch.where(directions.abs() < 1e-9, 1e-9, directions)
    low = (-solid.half - origins) * inverse
    high = (solid.half - origins) * inverse
    return torch.minimum(low, high), torch.maximum(low, high)


def _face_normals(axis: Tensor, directions: Tensor) -> Tensor:
    """Return unit vectors along `axis` (...), against the ray's direction: (..., 3)."""
    normals = torch.zeros_like(directions)
    along = directions.gather(-1, axis.unsqueeze(-1))
    return normals.scatter_(-1, axis.unsqueeze(-1), -torch.sign(along))


def _hit_box(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    enter, leave = _slabs(solid, origins, directions)
    near, axis = enter.max(dim=-1)
    met = (near < leave.amin(dim=-1)) & (near > NEAREST)
    return torch.where(met, near, torch.inf), _face_normals(axis, directions)


def _hit_room(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    _, leave = _slabs(solid, origins, directions)
    far, axis = leave.min(dim=-1)
    return torch.where(far > NEAREST, far, torch.inf), _face_normals(axis, directions)


def _smaller_root(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Return the smaller root of a t^2 + 2 b t + c with a > 0; infinity where it is below `NEAREST`."""
    discriminant = b * b - a * c
    root = (-b - discriminant.clamp_min(0.0).sqrt()) / a
    return torch.where((discriminant > 0) & (root > NEAREST), root, torch.inf)


def _hit_ellipsoid(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    o, d = origins / solid.half, directions / solid.half
    t = _smaller_root((d * d).sum(-1), (o * d).sum(-1), (o * o).sum(-1) - 1.0)
    points = o + torch.where(t.isfinite(), t, 0.0).unsqueeze(-1) * d
    return t, normalize(points / solid.half, dim=-1)


def _hit_cylinder(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    o, d = origins / solid.half, directions / solid.half
    side = _smaller_root(
        (d[..., :2] ** 2).sum(-1).clamp_min(1e-12),
        (o[..., :2] * d[..., :2]).sum(-1),
        (o[..., :2] ** 2).sum(-1) - 1.0,
    )
    z = o[..., 2] + torch.where(side.isfinite(), side, 0.0) * d[..., 2]
    side = torch.where(z.abs() <= 1.0, side, torch.inf)
    along = torch.where(d[..., 2].abs() < 1e-9, 1e-9, d[..., 2])
    cap = (-torch.sign(along) - o[..., 2]) / along
    radius = ((o[..., :2] + cap.unsqueeze(-1) * d[..., :2]) ** 2).sum(-1)
    cap = torch.where((radius <= 1.0) & (cap > NEAREST), cap, torch.inf)
    t = torch.minimum(side, cap)
    points = o + torch.where(t.isfinite(), t, 0.0).unsqueeze(-1) * d
    normals = points / solid.half
    normals[..., 2] = 0.0
    up = torch.zeros_like(normals)
    up[..., 2] = -torch.sign(along)
    return t, torch.where((cap < side).unsqueeze(-1), up, normalize(normals, dim=-1))


def _march(
    outside: Callable[[Tensor], Tensor], start: Tensor, end: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Find the first crossing of a function from positive to negative: t, and whether there is one."""
    found = torch.zeros_like(start, dtype=torch.bool)
    low, high = start.clone(), end.clone()
    previous = start
    for step in range(1, steps + 1):
        t = start + (end - start) * (step / steps)
        first = (outside(t) < 0) & ~found
        low, high = torch.where(first, previous, low), torch.where(first, t, high)
        found |= first
        previous = t
    for _ in range(8):
        middle = 0.5 * (low + high)
        is_outside = outside(middle) > 0
        low, high = torch.where(is_outside, middle, low), torch.where(is_outside, high, middle)
    return 0.5 * (low + high), found


def _hit_superquadric(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    enter, leave = _slabs(solid, origins, directions)
    start = enter.amax(dim=-1).clamp_min(NEAREST)
    end = leave.amin(dim=-1)
    o, d = origins / solid.half, directions / solid.half

    def outside(t: Tensor) -> Tensor:
        return ((o + t.unsqueeze(-1) * d).abs() ** solid.exponent).sum(-1) - 1.0

    t, found = _march(outside, start, torch.maximum(start, end), steps=16)
    points = o + t.unsqueeze(-1) * d
    normals = torch.sign(points) * points.abs() ** (solid.exponent - 1.0) / solid.half
    return torch.where(found & (start < end), t, torch.inf), normalize(normals, dim=-1)


def _hit_terrain(solid: Solid, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    if solid.heights is None:
        raise ValueError("a solid of kind 'terrain' needs heights")
    enter, leave = _slabs(solid, origins, directions)
    start = enter.amax(dim=-1).clamp_min(NEAREST)
    end = torch.maximum(start, leave.amin(dim=-1))
    heights = solid.heights

    def height(points: Tensor) -> Tensor:
        at = (points[..., :2] / solid.half[:2]).reshape(1, 1, -1, 2)
        found = grid_sample(
            heights[None, None], at, mode="bilinear", padding_mode="border", align_corners=True
        )
        return found.reshape(points.shape[:-1])

    def above(t: Tensor) -> Tensor:
        points = origins + t.unsqueeze(-1) * directions
        return points[..., 2] - height(points)

    # Steps grow with t: the ground near the camera shows more detail.
    stretch = (end / start).clamp_min(1.0)
    zeros, ones = torch.zeros_like(start), torch.ones_like(start)
    t, found = _march(lambda s: above(start * stretch**s), zeros, ones, steps=64)
    t = start * stretch**t
    points = origins + t.unsqueeze(-1) * directions
    delta = 2.0 * float(solid.half[0]) / heights.shape[-1]
    east, north = torch.tensor([delta, 0.0, 0.0]), torch.tensor([0.0, delta, 0.0])
    normals = torch.stack(
        (
            height(points - east) - height(points + east),
            height(points - north) - height(points + north),
            torch.full_like(t, 2.0 * delta),
        ),
        dim=-1,
    )
    return torch.where(found, t, torch.inf), normalize(normals, dim=-1)


SHAPES: dict[str, Callable[[Solid, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "box": _hit_box,
    "cylinder": _hit_cylinder,
    "ellipsoid": _hit_ellipsoid,
    "room": _hit_room,
    "superquadric": _hit_superquadric,
    "terrain": _hit_terrain,
}
