"""Rates and latencies of the fast stream."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticStatus

from redepth_ros.core.stream.sliding_window import SlidingWindow
from redepth_ros.ros.node.diagnostics import Health

__all__ = ["StreamStatistics"]


class StreamStatistics:
    """Counts frames on their way through the node; each field is written by one thread."""

    def __init__(self) -> None:
        self.received = SlidingWindow()
        """Images that arrived."""
        self.published = SlidingWindow()
        """Depth images that were published."""
        self.latency = SlidingWindow()
        """Seconds from the arrival of an image to its published depth."""
        self.model_time = SlidingWindow()
        """Seconds from the decoded image to its depth."""
        self.overwritten = 0
        """Images that a newer one replaced before they were processed."""

        self.unprompted = 0
        """Images that were skipped because the network needs a prompt, and they have no anchors."""

    def health(self, topic: str) -> Health:
        """Return the state of the stream for the diagnostics.

        Args:
            topic: of the images.
        """
        values = {
            "rate in (Hz)": f"{self.received.rate():.2f}",
            "rate out (Hz)": f"{self.published.rate():.2f}",
            "latency median (ms)": f"{self.latency.percentile(50) * 1e3:.2f}",
            "latency 95th percentile (ms)": f"{self.latency.percentile(95) * 1e3:.2f}",
            "model time median (ms)": f"{self.model_time.percentile(50) * 1e3:.2f}",
            "frames in": self.received.total,
            "frames out": self.published.total,
            "frames overwritten": self.overwritten,
            "frames without a prompt": self.unprompted,
        }
        if not self.received.rate():
            return Health(DiagnosticStatus.WARN, f"no images on {topic}", values)
        return Health(values=values)
