"""Cameras: from depth to points and normals.

All geometry is in the camera's optical frame of REP 103: x right, y down, z forward,
origin in the centre of projection, lengths in metres (or in the unknown unit of a relative
depth). Pixel (u, v) has its centre at integer coordinates, as in sensor_msgs/CameraInfo:
the centre of the top left pixel is (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from redepth_ros.core.errors import ConfigError

__all__ = ["Camera", "OrthographicCamera", "PinholeCamera", "depth_from_disparity", "normals_from_points"]

LARGEST = 1e9
"""Pixels: rays of larger numbers, and of focal lengths below its inverse, leave the range of float32."""


@dataclass(frozen=True)
class PinholeCamera:
    """A rectified camera: focal lengths, principal point and size, all in pixels.

    ::

        camera = PinholeCamera.centered(focal=500.0, width=640, height=480)
        points = camera.points(depth)    # (3, 480, 640)
        normals = camera.normals(depth)  # (3, 480, 640)

    Raises:
        ConfigError: a size below 1, a focal length that is not positive and finite, or a principal point that
            is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ConfigError(
                f"the camera's image has {self.width}x{self.height} pixels; both sides must be at least 1"
            )
        for name, focal in (("fx", self.fx), ("fy", self.fy)):
            if not 1.0 / LARGEST < focal < LARGEST:
                raise ConfigError(
                    f"focal length {name} is {focal}; it must be positive (pixels): "
                    "an uncalibrated camera publishes 0"
                )
        for name, centre in (("cx", self.cx), ("cy", self.cy)):
            if not abs(centre) < LARGEST:
                raise ConfigError(f"{name} of the principal point is {centre}; it must be finite (pixels)")

    @classmethod
    def centered(cls, focal: float, width: int, height: int) -> PinholeCamera:
        """Make a camera with one focal length and the principal point in the image's centre."""
        return cls(focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), width, height)

    def resized(self, width: int, height: int) -> PinholeCamera:
        """Return the camera of the same image at another size."""
        x, y = width / self.width, height / self.height
        # Pixel centres are integers, so the image's corner, at -0.5, is the fixed point.
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return PinholeCamera(self.fx * x, self.fy * y, cx, cy, width, height)

    def rays(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the rays through the pixel centres, scaled to z = 1: (3, H, W)."""
        return _rays(self, torch.device(device))

    def view(self, device: torch.device | str = "cpu") -> Tensor:
        """Return unit vectors from the surface to the camera: (1, 3, H, W)."""
        return -normalize(self.rays(device), dim=0)[None]

    def points(self, depth: Tensor) -> Tensor:
        """Return the points of depth (..., H, W): (..., 3, H, W)."""
        return depth.unsqueeze(-3) * self.rays(depth.device)  # (..., 3, H, W)

    def normals(self, depth: Tensor) -> Tensor:
        """Return the unit normals of depth (..., H, W): (..., 3, H, W), see `normals_from_points`."""
        return normals_from_points(self.points(depth))


@dataclass(frozen=True)
class OrthographicCamera:
    """A camera with parallel rays, for images without a calibration.

    As in Re-Depth Anything, the image's height is two units and the centres of its border pixels
    lie on its border. In the paper y points up; here it points down, as everywhere.
    """

    def view(self, device: torch.device | str = "cpu") -> Tensor:
        """Return the unit vector from the surface to the camera: (1, 3, 1, 1)."""
        return torch.tensor([0.0, 0.0, -1.0], device=device)[None, :, None, None]

    def points(self, depth: Tensor) -> Tensor:
        """Return the points of depth (..., H, W) in half image heights: (..., 3, H, W).

        x is in [-W/H, W/H], y in [-1, 1] from the top down, z is the depth. Both sides must have
        at least 2 pixels.
        """
        height, width = depth.shape[-2:]
        x = torch.linspace(-width / height, width / height, width, device=depth.device, dtype=depth.dtype)
        y = torch.linspace(-1.0, 1.0, height, device=depth.device, dtype=depth.dtype)
        x, y = x.expand(depth.shape), y[:, None].expand(depth.shape)  # (..., H, W)
        return torch.stack((x, y, depth), dim=-3)  # (..., 3, H, W)

    def normals(self, depth: Tensor) -> Tensor:
        """Return the unit normals of depth (..., H, W): (..., 3, H, W), see `normals_from_points`."""
        return normals_from_points(self.points(depth))


Camera = PinholeCamera | OrthographicCamera


@lru_cache(maxsize=16)
def _rays(camera: PinholeCamera, device: torch.device) -> Tensor:
    # A tensor made in inference mode could not take part in a later optimisation.
    with torch.inference_mode(False):
        u = torch.arange(camera.width, device=device, dtype=torch.float32)
        v = torch.arange(camera.height, device=device, dtype=torch.float32)
        x = ((u - camera.cx) / camera.fx).expand(camera.height, -1)
        y = ((v - camera.cy) / camera.fy)[:, None].expand(-1, camera.width)
        return torch.stack((x, y, torch.ones_like(x)))  # (3, H, W)


def depth_from_disparity(
    disparity: Tensor, scale: Tensor | float = 1.0, shift: Tensor | float = 0.0
) -> Tensor:
    """Return depth ``scale / (disparity + shift)``, of the disparity's shape.

    Args:
        disparity: any shape, in the network's unit, larger when nearer.
        scale: metres times the network's unit; 1 leaves the depth relative.
        shift: added to the disparity, in the network's unit.

    Returns:
        Depth; NaN where the shifted disparity is not positive: such a pixel is at or beyond
        infinity (REP 118 marks invalid depth by NaN).
    """
    shifted = disparity + shift
    # Without the inner `where`, the masked division would have a gradient of NaN.
    return torch.where(shifted > 0, scale / torch.where(shifted > 0, shifted, 1.0), torch.nan)


def normals_from_points(points: Tensor) -> Tensor:
    """Return the unit normals of an organised cloud; they point towards the camera.

    Args:
        points: (..., 3, H, W) in the optical frame, both sides at least 2 pixels.

    Returns:
        (..., 3, H, W) in the same frame. Tangents are central differences inside the image and
        one-sided ones on its border. The normal of a surface that faces the camera has a negative
        z. NaN where a point or one of its neighbours is NaN.
    """
    along_u, along_v = torch.gradient(points, dim=(-1, -2))
    # x right cross y down is z forward, into the scene; the other order faces the camera.
    normals = torch.linalg.cross(along_v, along_u, dim=-3)  # (..., 3, H, W)
    return normalize(normals, dim=-3, eps=1e-12)
