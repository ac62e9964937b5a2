"""Keyframes that a pool refines: from the processed frame to its record."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from redepth_ros.cli.process.journal import Journal
from redepth_ros.cli.process.progress import Progress
from redepth_ros.cli.process.recording_scale import TrackedScale
from redepth_ros.cli.process.records import ProcessedFrame
from redepth_ros.cli.process.refinement import Refined
from redepth_ros.cli.process.refinements import Refinements
from redepth_ros.cli.process.threads import Writer
from redepth_ros.cli.process.work import Work
from redepth_ros.cli.workers.pool import Pool
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.recordings.recording import RecordedFrame

MAP = np.ones((4, 6), np.float32)
SCALE = Scale(2.0)
RESULTS = [
    Refined(0, "refined", "", 1.0, MAP, MAP),
    Refined(1, "failed", "no memory", 0.0),
    None,  # of frame 2, which was stopped
    Refined(3, "refined", "", 1.0, MAP, MAP),
]


class GivenPool(Pool):
    """A pool whose results are given: the first ones are ready, the others come at the end."""

    facts = None

    def __init__(self, ready):
        self.jobs, self.on_step = [], None
        self._ready, self._rest = RESULTS[:ready], RESULTS[ready:]

    def submit(self, task, on_step):
        self.jobs.append(task)
        self.on_step = on_step

    def ready(self):
        yield from self._ready

    def drain(self):
        yield from self._rest

    def close(self):
        pass


class RefinedNames(Exporter):
    """A format that keeps the names of refined keyframes."""

    def __init__(self):
        super().__init__(Path(), Session("", "m", 1.0, has_cameras=False, has_poses=False))
        self.names = []

    def write_refined(self, refined):
        self.names.append((refined.frame.name, refined.outcome))


def keyframe(index):
    item = RecordedFrame(index, index * 10**9, f"frame{index}", np.zeros((4, 6, 3), np.uint8))
    tracked = TrackedScale(SCALE, 0.0)
    return ProcessedFrame(item, torch.ones(4, 6), tracked, "AA==", DepthSettings(), False, 0.1, None, None)


@pytest.mark.parametrize("ready", [0, 2, 4])
def test_results_are_counted_written_and_recorded(tmp_path, ready):
    stop, exporter, pool = threading.Event(), RefinedNames(), GivenPool(ready)
    journal = Journal(tmp_path / "out", {}, overwrite=False, formats=())
    writer = Writer([exporter], journal, stop)
    settings = DepthSettings(keyframes="all")
    work = Work(settings, settings.keyframe_selector(), "all", refine_settings=RefineSettings())
    refinements = Refinements(pool, work, writer, Progress(), stop)
    writer.start()
    for index in range(4):
        refinements.submit(keyframe(index))
    refinements.collect()
    refinements.finish()
    writer.close()
    journal.close()
    assert writer.error is None
    assert [(job.index, job.scale) for job in pool.jobs] == [(index, SCALE) for index in range(4)]
    assert refinements.outcomes == {"refined": 2, "failed": 1}
    assert exporter.names == [("frame0", "refined"), ("frame3", "refined")]
    assert [(one.index, one.outcome, one.message) for one in journal.ordered()] == [
        (0, "refined", ""),
        (1, "failed", "no memory"),
        (3, "refined", ""),
    ]
    step = Step(0, 1, 1, 1, 2, 0.0, 0.0, 0.0, 0.0)
    assert pool.on_step(step)
    stop.set()
    assert not pool.on_step(step)
