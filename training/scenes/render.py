"""A ray caster: renders a scene to an image, its depth and its normals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, normalize

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.relighting import blinn_phong, lambert, srgb_from_linear
from training.scenes.solids import Material, Solid, hit
from training.scenes.textures import lookup

__all__ = ["Light", "Rendering", "Scene", "render"]

SUPERSAMPLING = 2
"""Rays per pixel and axis for colour."""


@dataclass(frozen=True)
class Light:
    """A point light in the scene, or, where `directional`, the sun."""

    position: Tensor
    """World position in metres; the direction towards a directional light: (3,)."""
    color: tuple[float, float, float]
    """Linear red, green and blue received by a surface that faces the light."""
    directional: bool = False
    shadow: bool = True


@dataclass(frozen=True)
class Scene:
    """Solids, lights and one camera.

    `position` (3,) and `orientation` (3, 3) place the camera's optical frame in the world; the
    columns of `orientation` are its right, down and forward axes.
    """

    kind: str
    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    ambient: tuple[float, float, float]
    position: Tensor
    orientation: Tensor
    camera: PinholeCamera
    sky: tuple[float, float, float]
    """Linear colour of the sky at the zenith; the horizon is brighter."""
    haze: float = 0.0
    """Share of the light that haze replaces, per metre."""


@dataclass(frozen=True)
class Rendering:
    """An image with its true depth and normals, in the camera's optical frame."""

    image: Tensor
    """(3, H, W) sRGB in [0, 1]."""
    depth: Tensor
    """(H, W) metres along z, infinite in the sky."""
    normals: Tensor
    """(3, H, W) unit normals towards the camera, 0 in the sky."""


def _project_box(solid: Solid, scene: Scene, camera: PinholeCamera) -> tuple[slice, slice]:
    """Return the rows and columns that can see a solid; all of them if it reaches behind the camera."""
    everything = slice(0, camera.height), slice(0, camera.width)
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    corners = (signs * solid.half) @ solid.rotation.T + solid.centre
    seen = (corners - scene.position) @ scene.orientation  # (8, 3)
    if float(seen[:, 2].min()) < 0.05:
        return everything
    u = camera.fx * seen[:, 0] / seen[:, 2] + camera.cx
    v = camera.fy * seen[:, 1] / seen[:, 2] + camera.cy
    rows = slice(max(0, int(v.min())), max(0, min(camera.height, int(v.max()) + 2)))
    columns = slice(max(0, int(u.min())), max(0, min(camera.width, int(u.max()) + 2)))
    return rows, columns


def _texture_coordinates(points: Tensor, normals: Tensor) -> Tensor:
    """Return each point's two coordinates on the face of its normal: (N, 3) to (N, 2)."""
    axis = normals.abs().argmax(dim=-1, keepdim=True)
    first = torch.where(axis == 0, 1, 0)
    second = torch.where(axis == 2, 1, 2)
    return torch.cat((points.gather(-1, first), points.gather(-1, second)), dim=-1)


def _in_shadow(scene: Scene, points: Tensor, to_light: Tensor) -> Tensor:
    """Return whether a solid hides the light, (N,), from points and unnormalised directions to it, (N, 3)."""
    hidden = torch.zeros(points.shape[0], dtype=torch.bool)
    for solid in scene.solids:
        if solid.kind not in ("room", "terrain"):
            t, _, _ = hit(solid, points, to_light)
            hidden |= t < 1.0
    return hidden


@dataclass(frozen=True)
class _Visible:
    """The visible surface at each pixel: depth (H, W), world normals (3, H, W) and its material."""

    depth: Tensor
    normals: Tensor
    albedo: Tensor
    specular: Tensor
    shininess: Tensor


def _cast(scene: Scene, camera: PinholeCamera, directions: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return depth and index of the visible solid, (H, W), and normal and point in its frame, (H, W, 3)."""
    height, width = camera.height, camera.width
    depth = torch.full((height, width), torch.inf)
    owner = torch.full((height, width), -1, dtype=torch.long)
    local_normals = torch.zeros(height, width, 3)
    local_points = torch.zeros(height, width, 3)
    for index, solid in enumerate(scene.solids):
        window = _project_box(solid, scene, camera)
        if window[0].start >= window[0].stop or window[1].start >= window[1].stop:
            continue
        # Directions have z = 1 in the camera's frame, so t is the depth itself.
        t, normals, points = hit(solid, scene.position, directions[window])
        nearer = t < depth[window]
        depth[window][nearer] = t[nearer]
        owner[window][nearer] = index
        local_normals[window][nearer] = normals[nearer]
        local_points[window][nearer] = points[nearer]
    return depth, owner, local_normals, local_points


def _see(scene: Scene, camera: PinholeCamera, directions: Tensor, atlas: tuple[Tensor, ...]) -> _Visible:
    """Return the visible surface along rays (H, W, 3) in the world."""
    depth, owner, local_normals, local_points = _cast(scene, camera, directions)
    height, width = depth.shape
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
        footprint = depth[mine] / camera.fx / material.repeat
        uv = _texture_coordinates(at, facing) / material.repeat
        albedo[mine] = lookup(atlas, material.texture, uv, footprint) * torch.tensor(material.tint)
        gloss[0][mine] = material.specular
        gloss[1][mine] = material.shininess
    return _Visible(depth, normals.permute(2, 0, 1), albedo.permute(2, 0, 1), gloss[0], gloss[1])


def _shade(scene: Scene, seen: _Visible, directions: Tensor) -> Tensor:
    """Return the linear colour of every pixel: (3, H, W)."""
    sky = ~seen.depth.isfinite()
    depth = torch.where(sky, 0.0, seen.depth)
    points = scene.position[:, None, None] + depth * directions.permute(2, 0, 1)  # (3, H, W)
    view = normalize(-directions.permute(2, 0, 1), dim=0)
    # Ambient light is stronger from above, as under a ceiling or a sky.
    overhead = 0.65 + 0.35 * seen.normals[2:3]
    color = seen.albedo * torch.tensor(scene.ambient)[:, None, None] * overhead
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
        power = torch.tensor(light.color)[:, None, None]
        color = color + power * (seen.albedo * received + seen.specular * glossy)
    up = normalize(directions, dim=-1)[..., 2].clamp(0.0, 1.0)
    zenith = torch.tensor(scene.sky)[:, None, None]
    heaven = zenith * up + (0.5 + 0.5 * zenith) * (1.0 - up)
    if scene.haze > 0:
        veil = 1.0 - torch.exp(-scene.haze * depth)
        color = color * (1.0 - veil) + (0.5 + 0.5 * zenith) * veil
    return torch.where(sky, heaven, color)


def render(scene: Scene, atlas: tuple[Tensor, ...]) -> Rendering:
    """Render a scene.

    Colour is averaged over several rays per pixel, in linear light. Depth and normals are those of
    the ray through the pixel's centre, and therefore exact at edges.
    """
    camera = scene.camera
    fine = camera.resized(SUPERSAMPLING * camera.width, SUPERSAMPLING * camera.height)
    directions = _world_rays(scene, fine)
    seen = _see(scene, fine, directions, atlas)
    linear = avg_pool2d(_shade(scene, seen, directions).clamp(0.0, 1.0), SUPERSAMPLING)
    centre = _see(scene, camera, _world_rays(scene, camera), atlas)
    normals = torch.einsum("wc,whv->chv", scene.orientation, centre.normals)
    return Rendering(srgb_from_linear(linear), centre.depth, normals)


def _world_rays(scene: Scene, camera: PinholeCamera) -> Tensor:
    """Return ray directions in the world, of length 1 along the optical axis: (H, W, 3)."""
    return camera.rays().permute(1, 2, 0) @ scene.orientation.T
