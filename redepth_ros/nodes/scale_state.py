"""The state of the metric scale, in words for the log and the diagnostics."""

from __future__ import annotations

import math
from dataclasses import dataclass

from diagnostic_msgs.msg import DiagnosticStatus

from redepth_ros.core.metric.scale import Scale
from redepth_ros.nodes.known_scale import KnownScale
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.node.diagnostics import Health

__all__ = ["ScaleState"]

FRESH = 1.0
"""Seconds: an older scale is reported with its age."""


@dataclass(frozen=True)
class ScaleState:
    """State of the scale at one time."""

    settings: DepthSettings
    """Of the node."""
    scale: Scale | None
    """The filtered scale; None without anchors, or before the first usable ones."""
    age: float
    """Seconds since the last accepted fit."""
    lost: bool
    """Whether the last accepted fit is older than the timeout."""
    anchors: int
    """Anchors of the last accepted fit."""
    agreeing: float
    """Share of them that agree with it; NaN before the first one."""
    unmatched: float
    """Seconds for which images have had no anchors; NaN while they have some."""
    stamp_distance: float
    """Seconds between the stamps of the last image and of the nearest anchors."""
    known: KnownScale
    """Scale that the network knows itself."""
    metric: bool
    """Whether the network predicts metres without anchors."""
    shift_unknown: bool
    """Whether the height of the camera gives a scale whose shift is not known."""

    @property
    def unit(self) -> str:
        """The unit of the depth."""
        if self.scale is not None and self.shift_unknown:
            return "not in metres: anchors is height and the shift of the relative model is unknown"
        if self.scale is not None and self.settings.anchors == "height":
            return "in metres, by the height of the camera"
        if self.scale is not None:
            age = f" ({self.age:.1f} s ago)" if self.age > FRESH else ""
            return f"in metres, by anchors{age}"
        if self.metric:
            return "in metres (metric model)"
        if self.known.scale is not None:
            return self.known.unit
        if self.settings.fixed_scale(False) != Scale():
            return "in metres, by the scale and shift parameters"
        if self.settings.anchors != "none":
            return "invalid: no usable anchors yet"
        return self.known.unit or (
            "relative, not metres: set scale and shift once they are known, or give anchors"
        )

    @property
    def health(self) -> Health:
        """The state for the diagnostics."""
        values = {"depth": self.unit, **self._values}
        if problem := self._problem:
            return Health(DiagnosticStatus.WARN, problem, values)
        return Health(DiagnosticStatus.OK, f"depth is {self.unit}", values)

    @property
    def _problem(self) -> str:
        """Why the scale can't be trusted now; empty if it can."""
        if self.unmatched > self.settings.scale_timeout:
            return (
                f"no anchors within anchor_tolerance of an image for {self.unmatched:.0f} s: their stamps "
                f"are {self.stamp_distance:.3f} s apart"
            )
        if self.shift_unknown:
            return (
                "the depth is not in metres: anchors is height and shift is 0 with a relative model; set "
                "shift, or use a metric model"
            )
        if self.lost:
            return f"no usable anchors for {self.age:.0f} s: the last good scale is kept"
        return ""

    @property
    def _values(self) -> dict[str, str]:
        if self.settings.anchors == "none":
            return {}
        if self.scale is None:
            return {"scale": "none yet"}
        values = {
            "scale": f"{self.scale.scale:.5g}",
            "scale standard deviation (%)": f"{100.0 * self.scale.relative_stddev:.2f}",
            "shift": f"{self.scale.shift:.5g}",
            "shift standard deviation": f"{math.sqrt(self.scale.covariance[2]):.2g}",
            "scale age (s)": f"{self.age:.2f}",
        }
        if self.settings.anchors == "height":
            return values
        return {
            **values,
            "anchors": str(self.anchors),
            "anchors agreeing (%)": f"{100.0 * self.agreeing:.0f}",
        }
