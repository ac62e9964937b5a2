"""The progress bar of `redepth process`."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console

from redepth_ros.cli.process.progress import Progress
from redepth_ros.cli.progress import progress_bar
from redepth_ros.exports.frames import FrameRecord

__all__ = ["BarProgress"]


class BarProgress(Progress):
    """Shows frames, rate, remaining time and outcomes, and the keyframe that is refined."""

    def __init__(self, console: Console, total: int | None, done: int) -> None:
        """Args:
        console: to print on.
        total: frames to process; None if unknown.
        done: frames of former calls.
        """
        self._bar = progress_bar(console)
        self._total, self._done, self._new = total, done, 0
        self._outcomes: dict[str, int] = {}
        self._started = time.monotonic()
        self._failed = 0

    def __enter__(self) -> BarProgress:
        self._bar.start()
        self._frames = self._bar.add_task("frames", total=self._total, completed=self._done, note="")
        self._keyframe = self._bar.add_task("keyframe", total=1.0, visible=False, note="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def frame(self, record: FrameRecord) -> None:
        """Count a frame."""
        self._new += 1
        self._failed += bool(record.failure)
        self._show()

    def refining(self, name: str, share: float) -> None:
        """Show how far the refinement of a keyframe is."""
        self._bar.update(self._keyframe, completed=share, visible=share < 1.0)
        if name:
            self._bar.update(self._keyframe, note=name)

    def refined(self, record: FrameRecord) -> None:
        """Count a refined keyframe."""
        self._outcomes[record.outcome] = self._outcomes.get(record.outcome, 0) + 1
        self._bar.update(self._keyframe, visible=False)
        self._show()

    def _show(self) -> None:
        rate = self._new / max(time.monotonic() - self._started, 1e-9)
        parts = [f"{self._done + self._new}/{self._total or '?'}", f"{rate:.1f}/s"]
        parts += [f"{number} {outcome}" for outcome, number in self._outcomes.items()]
        parts += [f"{self._failed} unreadable"] if self._failed else []
        self._bar.update(self._frames, completed=self._done + self._new, note=", ".join(parts))
