"""Metric depth of the fast stream: scale, fusion with anchors, and frames without any."""

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from fakes import CAMERA, FakeAnchorSource, header_at

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.nodes.metric_depth import MetricDepth
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.settings import DepthSettings

HEIGHT, WIDTH = 48, 64
ROWS, COLUMNS = np.mgrid[0:HEIGHT, 0:WIDTH]
TRUTH = 3.0 + 0.03 * COLUMNS + 0.01 * ROWS
"""Depth of a slanted wall, metres."""
IMAGE = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def disparity_of(error):
    """Return the disparity of a network that is off by a smooth relative error."""
    return torch.from_numpy(6.0 / TRUTH * (1.0 + error * np.sin(COLUMNS / 12.0)) - 0.4).float()


def anchors_of(depth=TRUTH, count=200, seed=0):
    index = np.random.default_rng(seed).choice(depth.size, count, replace=False)
    rows, columns = np.divmod(index, WIDTH)
    return Anchors(rows, columns, depth[rows, columns], HEIGHT, WIDTH)


class Setup:
    """A MetricDepth with a fake source of anchors."""

    def __init__(self, **parameters):
        self.settings = DepthSettings(**{"anchors": "depth", **parameters})
        self.source, self.warnings = FakeAnchorSource(), []
        self.depth = MetricDepth(MetricScale(self.settings, False, self.source, self.warnings.append))
        self.seconds = 1000.0

    def estimate(self, item=None, error=0.05, seconds=1.0 / 30.0, disparity=None):
        self.seconds += seconds
        self.source.items = [item]
        disparity = disparity_of(error) if disparity is None else disparity
        return self.depth.estimate(header_at(self.seconds), disparity, IMAGE, CAMERA, self.settings, False)

    def health(self):
        return self.depth.health(self.settings)


def error_of(estimate):
    return float(np.abs(estimate.depth.numpy() / TRUTH - 1.0).mean())


def test_fused_depth_is_nearer_to_the_truth_than_the_scale_alone():
    fused, scaled = Setup().estimate(anchors_of()), Setup(fuse_anchors=False).estimate(anchors_of())
    assert error_of(fused) < 0.5 * error_of(scaled)
    assert fused.stddev is not None
    assert fused.scale == scaled.scale


def test_frames_without_anchors_keep_the_correction():
    setup, scaled = Setup(), Setup(fuse_anchors=False)
    for one in (setup, scaled):
        one.estimate(anchors_of())
    assert error_of(setup.estimate(None)) < 0.5 * error_of(scaled.estimate(None))
    assert setup.health().values["depth source"].startswith("fused")


def test_the_correction_fades_to_the_scale_alone():
    setup, scaled = Setup(), Setup(fuse_anchors=False)
    for one in (setup, scaled):
        one.estimate(anchors_of())
    last, alone = setup.estimate(None, seconds=10.0), scaled.estimate(None, seconds=10.0)
    torch.testing.assert_close(last.depth, alone.depth)
    assert setup.health().values["depth source"].startswith("scaled")


def test_a_wall_that_determines_no_scale_is_still_met():
    setup = Setup()
    setup.estimate(anchors_of())
    wall = np.full_like(TRUTH, 4.0)
    disparity = torch.from_numpy(6.0 / wall * 1.1 - 0.4).float()
    disparity += 1e-3 * torch.from_numpy(COLUMNS).float()
    found = setup.estimate(anchors_of(wall), disparity=disparity)
    assert "anchors give no scale, the last good scale is kept" in setup.warnings[-1]
    assert float(np.abs(found.depth.numpy() / 4.0 - 1.0).mean()) < 0.03


def test_millimetres_taken_for_metres_are_not_used():
    setup = Setup()
    good = setup.estimate(anchors_of())
    found = setup.estimate(anchors_of(0.001 * TRUTH))
    assert found.anchors is None
    np.testing.assert_allclose(found.depth.numpy(), good.depth.numpy(), rtol=0.05)


def test_depth_is_invalid_without_anchors_and_scale():
    setup = Setup()
    for item in (None, AnchorError("of another view")):
        found = setup.estimate(item)
        assert bool(found.depth.isnan().all())
        assert not found.valid


def test_a_network_that_tells_nothing_leaves_the_anchors_and_a_warning():
    setup = Setup()
    found = setup.estimate(anchors_of(), disparity=torch.full((HEIGHT, WIDTH), 1.5))
    assert found.scale is None
    assert error_of(found) < 0.05
    health = setup.health()
    assert health.level == DiagnosticStatus.WARN
    assert "interpolated" in health.values["depth source"]


def test_without_anchors_the_diagnostics_name_no_fusion():
    setup = Setup(anchors="none")
    assert "depth source" not in setup.health().values


def test_an_error_of_the_fusion_leaves_the_scale(monkeypatch):
    setup = Setup()

    def fail(*arguments, **options):
        raise RuntimeError("Singular matrix")

    monkeypatch.setattr(setup.depth._history, "fuse", fail)
    estimate = setup.estimate(anchors_of())
    assert error_of(estimate) < 0.1
    assert setup.warnings == ["depth is not fused with the anchors: RuntimeError: Singular matrix"]
