"""The calibration of a pinhole camera."""

from __future__ import annotations

from dataclasses import dataclass

from redepth_ros.core.errors import ConfigError

__all__ = ["Intrinsics"]


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: focal lengths and principal point in pixels, size in pixels.

    Raises:
        ConfigError: a size below 1, or a focal length that is not positive and finite.
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
                f"intrinsics are for an image of {self.width}x{self.height} pixels; "
                "both sides must be at least 1"
            )
        for name, focal in (("fx", self.fx), ("fy", self.fy)):
            if not 0.0 < focal < float("inf"):
                raise ConfigError(
                    f"focal length {name} is {focal}; it must be positive (pixels): "
                    "an uncalibrated camera publishes 0 there"
                )

    @classmethod
    def centred(cls, focal: float, width: int, height: int) -> Intrinsics:
        """A camera of one focal length that looks through the middle of its picture; all in pixels."""
        return cls(focal, focal, 0.5 * (width - 1), 0.5 * (height - 1), width, height)

    def resized(self, width: int, height: int) -> Intrinsics:
        """The same camera with another number of pixels over the same picture."""
        x, y = width / self.width, height / self.height
        # Pixel centres are at integers, so the picture's corner, at -0.5, is what stays.
        cx, cy = (self.cx + 0.5) * x - 0.5, (self.cy + 0.5) * y - 0.5
        return Intrinsics(self.fx * x, self.fy * y, cx, cy, width, height)
