"""The threads that read and write, and the short queues to them."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import torch

from redepth_ros.cli.process.journal import Journal
from redepth_ros.exports.exporter import Exporter
from redepth_ros.exports.frames import DepthFrame, FrameRecord, RefinedFrame
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame

__all__ = ["Reader", "Writer"]

QUEUE_SIZE = 4
"""Frames between two stages."""


class Reader:
    """Reads and decodes in a thread of its own."""

    def __init__(self, recording: Recording, selection: Selection, stop: threading.Event) -> None:
        self._recording, self._selection = recording, selection
        self._stop, self._closed = stop, threading.Event()
        self._queue: queue.Queue[RecordedFrame | UnreadableFrame | Exception | None]
        self._queue = queue.Queue(QUEUE_SIZE)
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)
        self.cpu_seconds = 0.0
        """Of the thread."""

    def items(self) -> Iterator[RecordedFrame | UnreadableFrame]:
        """Yield frames; raises the errors of the thread."""
        self._thread.start()
        while not self._stop.is_set():
            try:
                item = self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
            if item is None:
                return
            if isinstance(item, Exception):
                raise item
            yield item

    def _read(self) -> None:
        try:
            for item in self._recording.read(self._selection):
                self.cpu_seconds = time.thread_time()
                if not self._put(item):
                    return
            self._put(None)
        except Exception as error:  # handed to the main thread
            self._put(error)

    def _put(self, item: RecordedFrame | UnreadableFrame | Exception | None) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)


class Writer:
    """Writes in a thread of its own; its first error sets `stop` and is kept."""

    def __init__(self, exporters: Sequence[Exporter], journal: Journal, stop: threading.Event) -> None:
        self._exporters, self._journal, self._stop = exporters, journal, stop
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(QUEUE_SIZE)
        self._pending: list[FrameRecord] = []
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.error: Exception | None = None
        self.cpu_seconds = 0.0
        """Of the thread."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, task: Callable[[], None]) -> None:
        """Hand a task over; waits while the thread is behind."""
        self._queue.put(task)

    def _run(self) -> None:
        torch.set_num_threads(1)  # of this thread: the cores belong to the network
        while (task := self._queue.get()) is not None:
            if self.error is not None:
                continue
            try:
                task()
                self.cpu_seconds = time.thread_time()
            except Exception as error:  # a full disk, above all; reported by the main thread
                self.error = error
                self._stop.set()

    def write(self, frame: DepthFrame, record: FrameRecord) -> None:
        """Write a frame in all formats."""
        for exporter in self._exporters:
            exporter.write(frame)
        self.record(record)

    def write_refined(self, refined: RefinedFrame, record: FrameRecord) -> None:
        """Write a refined keyframe in all formats."""
        for exporter in self._exporters:
            exporter.write_refined(refined)
        self.record(record)

    def record(self, record: FrameRecord) -> None:
        """Write a record down once its files are durable."""
        self._pending.append(record)
        if all(exporter.is_durable for exporter in self._exporters):
            self._journal.add(self._pending)
            self._pending = []

    @property
    def wants_checkpoint(self) -> bool:
        """Whether a format wants its file closed."""
        return any(exporter.wants_checkpoint for exporter in self._exporters)

    def checkpoint(self) -> None:
        """Make everything durable, and write the records down."""
        self.put(self._checkpoint)

    def _checkpoint(self) -> None:
        for exporter in self._exporters:
            exporter.checkpoint()
        self._journal.add(self._pending)
        self._pending = []

    def complete(self) -> None:
        """Write what follows the last frame."""
        for exporter in self._exporters:
            self.put(exporter.complete)

    def close(self) -> None:
        """Write everything that waits, make it durable, and end the thread."""
        self.put(self._checkpoint)
        self._queue.put(None)
        self._thread.join()
