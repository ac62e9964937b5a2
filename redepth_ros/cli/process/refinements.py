"""The keyframes of a recording that a pool refines."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from functools import partial

from redepth_ros.cli.process.progress import Progress
from redepth_ros.cli.process.records import ProcessedFrame
from redepth_ros.cli.process.refinement import Refined, RefineJob
from redepth_ros.cli.process.threads import Writer
from redepth_ros.cli.process.work import Work
from redepth_ros.cli.workers.pool import Pool
from redepth_ros.core.refine.result import Step
from redepth_ros.exports.frames import RefinedFrame

__all__ = ["Refinements"]


class Refinements:
    """Gives keyframes to a pool, and hands its results to the writer."""

    def __init__(
        self, pool: Pool | None, work: Work, writer: Writer, progress: Progress, stop: threading.Event
    ) -> None:
        """Args:
        pool: of the networks; None refines nothing.
        work: what to do with each keyframe.
        writer: of the formats.
        progress: is told about each step.
        stop: set from outside, ends the refinement at work.
        """
        self._pool, self._work, self._writer = pool, work, writer
        self._progress, self._stop = progress, stop
        self._frames: dict[int, ProcessedFrame] = {}  # at work, by index
        self.outcomes: dict[str, int] = {}
        """Number of results by outcome."""

    def submit(self, frame: ProcessedFrame) -> None:
        """Give a keyframe to the pool."""
        work, item = self._work, frame.item
        if self._pool is None or work.refine_settings is None:
            return
        self._frames[item.index] = frame
        job = RefineJob(
            item.index,
            item.image,
            item.camera,
            frame.tracked.anchors,
            frame.tracked.scale,
            work.refine_settings,
            work.settings.limits,
            work.settings.assumed_relative_stddev,
            work.prompt,
            work.input_size,
        )
        self._progress.refining(item.name, 0.0)
        self._pool.submit(job, self._show_step)

    def _show_step(self, step: Step) -> bool:
        self._progress.refining("", step.progress)
        return not self._stop.is_set()

    def collect(self) -> None:
        """Write the results that are ready."""
        if self._pool is not None:
            self._take(self._pool.ready())

    def finish(self) -> None:
        """Wait for all results, and write them."""
        if self._pool is not None:
            self._take(self._pool.drain())

    def _take(self, results: Iterator[Refined | None]) -> None:
        for result in results:
            if result is None:  # ended by `stop`
                continue
            self.outcomes[result.outcome] = self.outcomes.get(result.outcome, 0) + 1
            frame = self._frames.pop(result.index)
            self._writer.put(partial(self._write, frame, result))

    def _write(self, frame: ProcessedFrame, result: Refined) -> None:
        """Write a refined keyframe, in the writer's thread."""
        frame.finish()
        record = dataclasses.replace(
            frame.record, outcome=result.outcome, message=result.message, refine_seconds=result.seconds
        )
        if result.depth is None or result.stddev is None:
            self._writer.record(record)
        else:
            refined = RefinedFrame(
                frame.depth_frame, result.depth, result.stddev, result.outcome, result.message
            )
            self._writer.write_refined(refined, record)
        self._progress.refined(record)
