"""Pinhole geometry: rays, depth, points and normals.

Everything is expressed in the camera's optical frame of REP 103: x right, y down,
z forward, origin in the centre of projection, lengths in metres (or in the unknown unit
of a relative depth). Pixel (u, v) has its centre at integer coordinates, as in
sensor_msgs/CameraInfo: the top left pixel's centre is (0, 0).
"""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.camera import Intrinsics

__all__ = [
    "depth_from_disparity",
    "limit_depth",
    "normals_from_points",
    "orthographic_points",
    "pixel_rays",
    "points_from_depth",
]


def pixel_rays(
    intrinsics: Intrinsics,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Directions through the pixel centres, scaled to z = 1: (3, H, W), optical frame.

    With that scale a point at depth z on a ray is simply ``z * ray``.
    """
    u = torch.arange(intrinsics.width, device=device, dtype=dtype or torch.float32)
    v = torch.arange(intrinsics.height, device=device, dtype=dtype or torch.float32)
    x = ((u - intrinsics.cx) / intrinsics.fx).expand(intrinsics.height, -1)
    y = ((v - intrinsics.cy) / intrinsics.fy)[:, None].expand(-1, intrinsics.width)
    return torch.stack((x, y, torch.ones_like(x)))  # (3, H, W)


def depth_from_disparity(
    disparity: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0
) -> Tensor:
    """Depth ``scale / (disparity + shift)``, of the disparity's shape.

    Args:
        disparity: any shape, in the model's unit, larger when nearer.
        scale: metres times the model's unit; 1 leaves the depth relative.
        shift: added to the disparity, in the model's unit.

    Re-Depth Anything's depth, section 3.1, is that of scale ``s + tanh(d)`` with the scale
    offset d as a free variable, and of shift m.

    Returns:
        Depth, NaN where the shifted disparity is not positive: such a pixel lies at or
        beyond infinity (REP 118 asks NaN of what is not valid).
    """
    shifted = disparity + shift
    # A division by what is replaced afterwards would still have a gradient, of NaN.
    return torch.where(shifted > 0, scale / torch.where(shifted > 0, shifted, 1.0), torch.nan)


def limit_depth(depth: Tensor, nearest: float, farthest: float) -> Tensor:
    """The same depth, NaN where it is not positive, or outside of nearest..farthest."""
    return torch.where((depth > 0) & (depth >= nearest) & (depth <= farthest), depth, torch.nan)


def points_from_depth(depth: Tensor, rays: Tensor) -> Tensor:
    """Points of the optical frame: (..., H, W) depth and (3, H, W) rays to (..., 3, H, W)."""
    return depth.unsqueeze(-3) * rays  # (..., 3, H, W)


def orthographic_points(depth: Tensor) -> Tensor:
    """Points of an image without a calibration, seen along parallel rays.

    As in Re-Depth Anything, the image's height is two units and its border pixels' centres
    lie on its border. That paper has y up; here, as everywhere, it is down.

    Args:
        depth: (..., H, W), both sides at least 2, in units of half the image's height.

    Returns:
        (..., 3, H, W): x from -W/H to W/H, y from -1 to 1 down the rows, z the depth.
    """
    height, width = depth.shape[-2:]
    reach = width / height
    x = torch.linspace(-reach, reach, width, device=depth.device, dtype=depth.dtype)
    y = torch.linspace(-1.0, 1.0, height, device=depth.device, dtype=depth.dtype)
    x, y = x.expand(depth.shape), y[:, None].expand(depth.shape)  # (..., H, W)
    return torch.stack((x, y, depth), dim=-3)  # (..., 3, H, W)


def normals_from_points(points: Tensor) -> Tensor:
    """Unit normals of an organised cloud, pointing towards the camera.

    Args:
        points: (..., 3, H, W) in the optical frame, both sides at least 2.

    Returns:
        (..., 3, H, W) in the same frame. Inside the image the tangents are central
        differences, on its border one-sided ones. For a surface that faces the camera
        the normal's z is negative. NaN where a point or a neighbour is NaN.
    """
    along_u, along_v = torch.gradient(points, dim=(-1, -2))
    # x right cross y down is z forward, into the scene; the other order faces the camera.
    normals = torch.linalg.cross(along_v, along_u, dim=-3)  # (..., 3, H, W)
    return torch.nn.functional.normalize(normals, dim=-3, eps=1e-12)
