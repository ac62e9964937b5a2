"""Write sample frames with an exporter."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_samples import make_frame, make_record, make_session

from redepth_ros.exports.frames import RefinedFrame


@pytest.fixture
def export(tmp_path):
    """Write frames with an exporter; the second is a keyframe with twice the depth."""

    def write(kind, frames=None, session=None, **options):
        frames = frames if frames is not None else [make_frame(index) for index in range(3)]
        exporter = kind(tmp_path / "out", session or make_session(), **options)
        records = [make_record(frame) for frame in frames]
        for frame in frames:
            exporter.write(frame)
            if frame.index == 1:
                stddev = np.full_like(frame.depth, 0.05)
                exporter.write_refined(
                    RefinedFrame(frame, 2 * frame.depth, stddev, "refined", "moved by 3 %")
                )
        exporter.complete()
        exporter.checkpoint()
        assert exporter.is_durable
        exporter.finish(records, True)
        return tmp_path / "out"

    return write
