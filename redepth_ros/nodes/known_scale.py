"""The scale of the fast depth that a network knows itself, without anchors."""

from __future__ import annotations

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.metric.scale import Scale

__all__ = ["KnownScale"]


class KnownScale:
    """Keeps the last scale that a network knew: a camera_info that is late changes no unit."""

    def __init__(self, source: str) -> None:
        """Args:
        source: see `DepthAnything.scale_source`.
        """
        self.scale: Scale | None = None
        """None before the first one."""
        self.unit = ""
        """Unit of depth without anchors, in words; empty if that does not depend on the network."""
        if source == "calibration":
            self.unit = "relative, not metres, until there is a camera_info: this model needs the calibration"
        elif source == "image":
            self.unit = "in metres, by the calibration or a field of view that the model estimates"
        elif source == "prompt":
            self.unit = "relative, not metres: this model needs a prompt, set anchors to depth or points"

    def update(self, known: Scale | None, camera: PinholeCamera | None) -> Scale | None:
        """Take what the network knows of a frame, given its camera; return the last scale that it knew."""
        if known is not None:
            self.scale = known
            self.unit = "in metres, by the calibration of the camera"
            if camera is None:
                self.unit = "in metres, by a field of view that the model estimates: there is no camera_info"
        return self.scale
