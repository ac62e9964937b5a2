"""A ray caster: one scene to a picture, its depth and its normals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from redepth_ros.core.camera import pixel_rays
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.relighting import blinn_phong, lambert, srgb_from_linear
from training.scenes.solids import Material, Solid, hit
from training.scenes.textures import sample

__all__ = ["Light", "Rendering", "Scene", "render"]

SUPERSAMPLING = 2
"""Rays per output pixel and axis for colour."""


@dataclass(frozen=True)
class Light:
    """A light: a point in the room, or, with `directional`, the sun."""

    position: Tensor
    """World position in metres, or the direction to the light where directional: (3,)."""
    colour: tuple[float, float, float]
    """Linear red, green and blue that a surface facing it receives."""
    directional: bool = False
    shadow: bool = True


@dataclass(frozen=True)
class Scene:
    """Solids, lights and one camera.

    `position` (3,) and `orientation` (3, 3) place the camera's optical frame in the world:
    the columns of `orientation` are its right, down and forward axes.
    """

    kind: str
    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    ambient: tuple[float, float, float]
    position: Tensor
    orientation: Tensor
    intrinsics: Intrinsics
    sky: tuple[float, float, float]
    """Linear colour of the sky at the zenith; the horizon is brighter."""
    haze: float = 0.0
    """Fraction of the light that haze replaces, per metre."""


@dataclass(frozen=True)
class Rendering:
    """What a camera sees, and what is true of it, in the camera's optical frame."""

    image: Tensor
    """(3, H, W) sRGB in 0..1."""
    depth: Tensor
    """(H, W) metres along z, infinity in the sky."""
    normals: Tensor
    """(3, H, W) unit normals towards the camera, 0 in the sky."""


def _project_box(solid: Solid, scene: Scene, intrinsics: Intrinsics) -> tuple[slice, slice]:
    """Rows and columns that can see the solid's bounding box; all if it reaches behind."""
    everything = slice(0, intrinsics.height), slice(0, intrinsics.width)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    corners = (signs * solid.half) @ solid.rotation.T + solid.centre
    seen = (corners - scene.position) @ scene.orientation  # (8, 3)
    if float(seen[:, 2].min()) < 0.05:
        return everything
    u = intrinsics.fx * seen[:, 0] / seen[:, 2] + intrinsics.cx
    v = intrinsics.fy * seen[:, 1] / seen[:, 2] + intrinsics.cy
    rows = slice(max(0, int(v.min())), max(0, min(intrinsics.height, int(v.max()) + 2)))
    columns = slice(max(0, int(u.min())), max(0, min(intrinsics.width, int(u.max()) + 2)))
    return rows, columns


def _texture_coordinates(points: Tensor, normals: Tensor) -> Tensor:
    """The two coordinates of the face that the normal looks out of: (N, 3) to (N, 2)."""
    axis = normals.abs().argmax(dim=-1, keepdim=True)
    first = torch.where(axis == 0, 1, 0)
    second = torch.where(axis == 2, 1, 2)
    return torch.cat((points.gather(-1, first), points.gather(-1, second)), dim=-1)


def _in_shadow(scene: Scene, points: Tensor, to_light: Tensor) -> Tensor:
    """Whether a solid stands before the light: points and (unnormalised) way to it, (N, 3)."""
    hidden = torch.zeros(points.shape[0], dtype=torch.bool)
    for solid in scene.solids:
        if solid.kind not in ("room", "terrain"):
            t, _, _ = hit(solid, points, to_light)
            hidden |= t < 1.0
    return hidden


@dataclass(frozen=True)
class _Visible:
    """Per pixel of the fine grid: depth, world normal, and the surface's looks."""

    depth: Tensor
    normals: Tensor
    albedo: Tensor
    specular: Tensor
    shininess: Tensor


def _cast(scene: Scene, intrinsics: Intrinsics, directions: Tensor, atlas: tuple[Tensor, ...]) -> _Visible:
    height, width = intrinsics.height, intrinsics.width
    depth = torch.full((height, width), torch.inf)
    owner = torch.full((height, width), -1, dtype=torch.long)
    local_normals = torch.zeros(height, width, 3)
    local_points = torch.zeros(height, width, 3)
    for index, solid in enumerate(scene.solids):
        window = _project_box(solid, scene, intrinsics)
        if window[0].start >= window[0].stop or window[1].start >= window[1].stop:
            continue
        # Directions have z = 1 in the camera's frame, so t is the depth itself.
        t, normals, points = hit(solid, scene.position, directions[window])
        nearer = t < depth[window]
        depth[window][nearer] = t[nearer]
        owner[window][nearer] = index
        local_normals[window][nearer] = normals[nearer]
        local_points[window][nearer] = points[nearer]

    normals = torch.zeros(height, width, 3)
    albedo = torch.zeros(height, width, 3)
    gloss = torch.zeros(2, height, width)
    gloss[1] = 1.0
    for index in torch.unique(owner).tolist():
        if index < 0:
            continue
        solid, mine = scene.solids[index], owner == index
        material: Material = solid.material
        facing, at = local_normals[mine], local_points[mine]
        normals[mine] = facing @ solid.rotation.T
        footprint = depth[mine] / intrinsics.fx / material.repeat
        uv = _texture_coordinates(at, facing) / material.repeat
        albedo[mine] = sample(atlas, material.texture, uv, footprint) * torch.tensor(material.tint)
        gloss[0][mine] = material.specular
        gloss[1][mine] = material.shininess
    return _Visible(depth, normals.permute(2, 0, 1), albedo.permute(2, 0, 1), gloss[0], gloss[1])


def _shade(scene: Scene, seen: _Visible, directions: Tensor) -> Tensor:
    """Linear colour of every pixel: (3, H, W)."""
    sky = ~seen.depth.isfinite()
    depth = torch.where(sky, 0.0, seen.depth)
    points = scene.position[:, None, None] + depth * directions.permute(2, 0, 1)  # (3, H, W)
    view = normalize(-directions.permute(2, 0, 1), dim=0)
    # Half the light comes from everywhere, half from above: what a ceiling or a sky does.
    overhead = 0.65 + 0.35 * seen.normals[2:3]
    colour = seen.albedo * torch.tensor(scene.ambient)[:, None, None] * overhead
    for light in scene.lights:
        place = light.position[:, None, None]
        way = place * 1e3 if light.directional else place - points  # (3, H, W)
        way = way.expand_as(points)
        toward = normalize(way, dim=0)
        received = lambert(seen.normals, toward)
        glossy = blinn_phong(seen.normals, toward, view, seen.shininess) * (received > 0)
        if light.shadow:
            coarse = (slice(None), slice(None, None, SUPERSAMPLING), slice(None, None, SUPERSAMPLING))
            lifted = (points + 2e-3 * seen.normals + 1e-3 * view)[coarse]
            hidden = _in_shadow(scene, lifted.reshape(3, -1).T, way[coarse].reshape(3, -1).T).reshape(
                1, 1, *lifted.shape[1:]
            )
            lit = 1.0 - interpolate(hidden.float(), size=depth.shape, mode="bilinear")[0]
            received, glossy = received * lit, glossy * lit
        power = torch.tensor(light.colour)[:, None, None]
        colour = colour + power * (seen.albedo * received + seen.specular * glossy)
    up = normalize(directions, dim=-1)[..., 2].clamp(0.0, 1.0)
    zenith = torch.tensor(scene.sky)[:, None, None]
    heaven = zenith * up + (0.5 + 0.5 * zenith) * (1.0 - up)
    if scene.haze > 0:
        veil = 1.0 - torch.exp(-scene.haze * depth)
        colour = colour * (1.0 - veil) + (0.5 + 0.5 * zenith) * veil
    return torch.where(sky, heaven, colour)


def render(scene: Scene, atlas: tuple[Tensor, ...]) -> Rendering:
    """The picture, depth and normals of a scene.

    Colour is averaged over several rays a pixel, in linear light; depth and normals are
    those of the ray through the pixel's centre, so that they stay exact at edges.
    """
    width, height = scene.intrinsics.width, scene.intrinsics.height
    fine = scene.intrinsics.resized(SUPERSAMPLING * width, SUPERSAMPLING * height)
    directions = _world_rays(scene, fine)
    seen = _cast(scene, fine, directions, atlas)
    linear = avg_pool2d(_shade(scene, seen, directions).clamp(0.0, 1.0), SUPERSAMPLING)
    centre = _cast(scene, scene.intrinsics, _world_rays(scene, scene.intrinsics), atlas)
    normals = torch.einsum("wc,whv->chv", scene.orientation, centre.normals)
    return Rendering(srgb_from_linear(linear), centre.depth, normals)


def _world_rays(scene: Scene, intrinsics: Intrinsics) -> Tensor:
    """Ray directions in the world, of length 1 along the optical axis: (H, W, 3)."""
    return pixel_rays(intrinsics).permute(1, 2, 0) @ scene.orientation.T
