"""Checks of the stamps of a stream of images."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StampCheck", "StampFault"]


@dataclass(frozen=True)
class StampFault:
    """Why an image is skipped because of its stamp."""

    message: str
    restarted: bool = False
    """Whether the stamps jumped back: images with later stamps than this one are valid again."""


class StampCheck:
    """Checks that stamps are set and increase.

    A backward jump skips one image; the next ones are compared with its stamp, so that a bag or a
    simulation that restarts is followed.
    """

    def __init__(self) -> None:
        self._last = 0

    def reset(self) -> None:
        """Accept any stamp next, as at the start."""
        self._last = 0

    def check(self, stamp: int) -> StampFault | None:
        """Return the fault of a stamp in nanoseconds; None if the stamp is valid."""
        last = self._last
        if stamp == 0:
            return StampFault(
                "image with a stamp of zero skipped: it can't be matched with anything; the camera's driver "
                "must fill in header.stamp"
            )
        if stamp == last:
            return StampFault(
                f"image with the duplicate stamp {stamp / 1e9:.3f} s skipped: each image needs its own "
                "stamp. Possible causes: a clock that stands still, several publishers on one topic"
            )
        self._last = stamp
        if stamp > last:
            return None
        return StampFault(
            f"image stamp went back from {last / 1e9:.3f} to {stamp / 1e9:.3f} s: this image is skipped, the "
            "next ones are accepted. A bag or a simulation that restarts causes this once; several "
            "publishers on one topic cause it again and again",
            restarted=True,
        )
