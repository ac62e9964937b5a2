"""What `redepth process` does with each frame."""

from __future__ import annotations

from dataclasses import dataclass

from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.stream.keyframes import KeyframeSelector
from redepth_ros.nodes.settings import DepthSettings

__all__ = ["Work"]


@dataclass(frozen=True)
class Work:
    """What to do with each frame."""

    settings: DepthSettings
    keyframes: KeyframeSelector
    policy: str
    """Of the keyframes."""
    input_size: int = 0
    refine_settings: RefineSettings | None = None
    prompt: str = ""
