"""Reading, network and writing at once: three threads with short queues between them."""

from __future__ import annotations

import base64
import dataclasses
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from redepth_ros.cli.process.journal import Journal
from redepth_ros.cli.process.progress import Progress
from redepth_ros.cli.process.recording_scale import RecordingScale, TrackedScale
from redepth_ros.cli.process.records import ProcessedFrame, scale_of_record
from redepth_ros.cli.process.refinements import Refinements
from redepth_ros.cli.process.threads import Reader, Writer
from redepth_ros.cli.process.work import Work
from redepth_ros.cli.workers.pool import Pool
from redepth_ros.core.errors import AnchorError, RedepthError
from redepth_ros.core.memory import memory_errors
from redepth_ros.core.metric.residual_history import ResidualHistory
from redepth_ros.core.metric.scale import disparity_from_output
from redepth_ros.core.validity import check_output
from redepth_ros.exports.exporter import Exporter
from redepth_ros.exports.frames import FrameRecord
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.prompt_depth_anything import takes_prompt, with_prompt
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame

__all__ = ["Pipeline", "Summary"]

HISTORY, MAX_WARM = 4_000_000_000, 200
"""Nanoseconds, and frames, of a former call that are run again to carry its corrections on."""
NO_PROMPT = "no depth: the network needs a prompt, and the frame has no anchors"
LOOK_AHEAD = 50
"""Frames that are searched for the first usable anchors."""


@dataclass
class Summary:
    """What came out of a call."""

    frames: int = 0
    """Frames with depth."""
    outcomes: dict[str, int] = field(default_factory=dict)
    interrupted: bool = False
    ended_early: str = ""
    """Why the recording could not be read to its end."""
    error: Exception | None = None
    """Why nothing more could be written."""
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    """Processor time of the threads network, reader and writer."""


class Pipeline:
    """Processes a recording: one thread reads and decodes, this one runs the networks, one writes."""

    def __init__(
        self,
        recording: Recording,
        network: DepthAnything,
        tracker: RecordingScale,
        work: Work,
        exporters: Sequence[Exporter],
        journal: Journal,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        """Args:
        recording: to process.
        network: makes the fast depth.
        tracker: of the scale.
        work: what to do with each frame.
        exporters: of the formats.
        journal: of the folder; frames that it has are not done again.
        progress: is told about each step.
        stop: set from outside, ends after the frame at work.
        """
        self._recording, self._network, self._tracker = recording, network, tracker
        self._work, self._progress, self._stop = work, progress, stop
        self._journal, self._writer = journal, Writer(exporters, journal, stop)
        self._refinements: Refinements
        self._needs_prompt = takes_prompt(network) and tracker.has_anchors
        fused = tracker.has_anchors and work.settings.fuse_anchors
        self._history = ResidualHistory() if fused else None
        self._warm: set[int] = set()  # frames of a former call that fill the history again
        self._with_stddev = any(exporter.needs_stddev for exporter in exporters)
        self.summary = Summary()

    def run(self, selection: Selection, pool: Pool | None = None) -> Summary:
        """Process the frames of a selection that are not done yet.

        The pool refines keyframes. All else happens here, in the order of the recording: the scale of a
        frame, and whether it is a keyframe, depend on the frames before.
        """
        self._refinements = Refinements(pool, self._work, self._writer, self._progress, self._stop)
        self._replay()
        records = self._journal.records
        self._warm = self._find_warm() if self._history is not None else set()
        done = {index for index, one in records.items() if not self._is_open(one)} - self._warm
        self._find_first_scale(selection)
        reader = Reader(self._recording, dataclasses.replace(selection, done=done), self._stop)
        self._writer.start()
        started = time.thread_time()
        try:
            for item in reader.items():
                self._handle(item)
                self._refinements.collect()
                if self._stop.is_set():
                    break
                if self._writer.wants_checkpoint:
                    self._refinements.finish()
                    self._writer.checkpoint()
            if not self._stop.is_set():
                self._refinements.finish()
                self._writer.complete()
        finally:
            self.summary.interrupted = self._stop.is_set()
            network_seconds = time.thread_time() - started
            reader.close()
            self._writer.close()
        self.summary.outcomes = self._refinements.outcomes
        self.summary.cpu_seconds = {
            "network": network_seconds,
            "reader": reader.cpu_seconds,
            "writer": self._writer.cpu_seconds,
        }
        if self._writer.error is not None:
            self.summary.error = self._writer.error
        return self.summary

    def _is_open(self, record: FrameRecord) -> bool:
        """Return whether a frame of a former call still has to be refined."""
        return record.keyframe and not record.outcome and self._work.refine_settings is not None

    def _find_warm(self) -> set[int]:
        """Return the last frames of a former call, whose corrections later frames still need."""
        frames = [one for one in self._journal.ordered() if not one.failure]
        if not frames:
            return set()
        first = frames[-1].stamp - HISTORY
        return {one.index for one in frames[-MAX_WARM:] if one.stamp >= first}

    def _replay(self) -> None:
        """Bring scale and keyframes to the state after the frames that are done."""
        for record in self._journal.ordered():
            if record.failure:
                continue
            seconds = record.stamp * 1e-9
            self._tracker.replay(seconds, record.measured)
            if record.keyframe:
                token = np.frombuffer(base64.b64decode(record.class_token), "<f4").copy()
                self._work.keyframes.accept(seconds, torch.from_numpy(token))

    @torch.inference_mode()
    def _find_first_scale(self, selection: Selection) -> None:
        """Find the scale for frames before the first usable anchors."""
        if not self._tracker.needs_first:
            return
        nearby = dataclasses.replace(selection, done=frozenset())
        for number, frame in enumerate(self._recording.read(nearby)):
            if number >= LOOK_AHEAD or self._stop.is_set():
                return
            if not isinstance(frame, RecordedFrame) or not self._tracker.can_measure(frame.anchors):
                continue
            try:
                output = self._network.predict(frame.image, self._work.input_size)
                disparity = disparity_from_output(output, self._network.metric)
                fit = self._tracker.measure(disparity, frame.anchors, frame.camera)
            except (AnchorError, RedepthError):
                continue
            if fit is not None:
                self._tracker.first = fit.scale
                return

    def _handle(self, item: RecordedFrame | UnreadableFrame) -> None:
        if isinstance(item, UnreadableFrame):
            if item.index < 0:
                self.summary.ended_early = item.reason
            else:
                self._fail(item.index, item.name, item.reason)
            return
        known = self._journal.records.get(item.index)
        try:
            with memory_errors():
                frame = self._process(item, known)
        except RedepthError as error:
            self._fail(item.index, item.name, str(error), item.stamp)
            return
        if known is None:
            self.summary.frames += 1
            self._writer.put(partial(self._write, frame))
        elif item.index in self._warm:
            self._writer.put(frame.finish)
        if frame.keyframe and (known is None or self._is_open(known)):
            self._refinements.submit(frame)

    def _write(self, frame: ProcessedFrame) -> None:
        """Finish and write a frame, in the writer's thread."""
        frame.finish()
        self._writer.write(frame.depth_frame, frame.record)
        self._progress.frame(frame.record)

    def _fail(self, index: int, name: str, reason: str, stamp: int = 0) -> None:
        record = FrameRecord(index, stamp, name, failure=reason)
        self._writer.put(partial(self._writer.record, record))
        self._progress.frame(record)

    @torch.inference_mode()
    def _process(self, item: RecordedFrame, known: FrameRecord | None) -> ProcessedFrame:
        """Run the network on a frame, and return it with its scale.

        Args:
            item: the frame.
            known: its record in a former call, whose scale is then kept.

        Raises:
            ModelError: the depth is NaN throughout.
        """
        started, keyframes = time.monotonic(), self._work.keyframes
        network = with_prompt(self._network, item.anchors if self._needs_prompt else None)
        prediction = network.predict_frame(item.image, self._work.input_size)
        output, token = prediction.output, prediction.class_token
        check_output(output, network.dtype)
        disparity = disparity_from_output(output, network.metric)  # (H, W)
        seconds = item.stamp * 1e-9
        if known is not None:
            tracked, class_token = scale_of_record(known, item), known.class_token
        else:
            known_scale = prediction.known_scale(item.camera)
            tracked = self._tracker.update(seconds, disparity, item.anchors, item.camera, known_scale)
            if self._needs_prompt and tracked.anchors is None:
                tracked = TrackedScale(None, 0.0, problem=tracked.problem or NO_PROMPT)
            class_token = ""
            if tracked.scale is not None and keyframes.is_due(seconds, token):
                keyframes.accept(seconds, token)
                values = token.float().cpu().numpy().astype("<f4")
                class_token = base64.b64encode(values.tobytes()).decode("ascii")
        return ProcessedFrame(
            item,
            disparity.cpu(),  # here: the writer's thread would wait for the kernels of the next frame
            tracked,
            class_token,
            self._work.settings,
            self._with_stddev,
            time.monotonic() - started,
            known,
            self._history if known is None or item.index in self._warm else None,
        )
