"""The parameters of `camera_player`."""

from __future__ import annotations

from dataclasses import dataclass

from redepth_ros.core.settings import Settings, setting

__all__ = ["PlayerSettings"]


@dataclass(frozen=True)
class PlayerSettings(Settings):
    """Parameters of `camera_player`."""

    path: str = setting(
        "",
        "A video, a folder of images, an image or a rosbag2; empty plays photographs of scikit-image.",
        fixed=True,
    )
    rate: float = setting(
        0.0, "Frames per second; 0 uses the source's own (images: 10).", unit="Hz", low=0.0, high=1000.0
    )
    loop: bool = setting(True, "Whether to start again at the end; false ends the node there.")
    frame_id: str = setting(
        "", "Frame of the images; empty uses the bag's own, or camera_optical_frame.", fixed=True
    )
    horizontal_fov: float = setting(
        60.0,
        "Assumed horizontal field of view of sources without a calibration.",
        unit="degrees",
        low=1.0,
        high=179.0,
        fixed=True,
    )
    bag_topic: str = setting(
        "", "Image topic of a rosbag2 to play; empty plays the only camera of the bag.", fixed=True
    )
