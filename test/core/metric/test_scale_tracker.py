"""The scale over the frames of a stream."""

import numpy as np
import pytest
import torch

from redepth_ros.core.errors import AnchorError
from redepth_ros.core.metric import scale_tracker
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metric.scale_tracker import ScaleTracker, anchors_agree

DISPARITY = torch.linspace(0.2, 1.2, 24 * 32).reshape(24, 32)
TRUTH = (6.0 / (DISPARITY + 0.4)).numpy().astype(np.float64)
INDEX = np.arange(0, 24 * 32, 4)


def tracker_of(metric=False):
    return ScaleTracker(metric=metric, measurement_noise=0.05, process_noise=0.01, timeout=2.0)


def anchors_of(factor=1.0):
    return Anchors(INDEX // 32, INDEX % 32, factor * TRUTH.flat[INDEX], 24, 32)


def fit_of(tracker, factor=1.0):
    return tracker.fit(anchors_of(factor), DISPARITY, noise=0.01, minimum=30)


def test_the_scale_is_that_of_the_anchors():
    tracker = tracker_of()
    assert tracker.scale is None
    assert tracker.update(1.0, fit_of(tracker))
    np.testing.assert_allclose(tracker.scale.depth(DISPARITY).numpy(), TRUTH, rtol=1e-3)
    assert tracker.residual_stddev >= 0.0


def test_a_frame_without_a_fit_keeps_the_scale_until_it_is_lost():
    tracker = tracker_of()
    tracker.update(1.0, fit_of(tracker))
    assert not tracker.update(2.0, None)
    assert (tracker.lost, tracker.age) == (False, 1.0)
    tracker.update(3.5, None)
    assert tracker.lost
    assert tracker.scale is not None


def test_a_fit_far_from_the_scale_is_not_accepted_at_once():
    tracker = tracker_of()
    for time in (1.0, 1.1, 1.2, 1.3, 1.4):
        tracker.update(time, fit_of(tracker))
    assert not tracker.update(1.5, fit_of(tracker, 1.6))


def test_millimetres_are_told_by_the_known_scale():
    tracker = tracker_of()
    tracker.update(1.0, fit_of(tracker))
    with pytest.raises(AnchorError, match="millimetres taken for metres"):
        fit_of(tracker, 1000.0)
    with pytest.raises(AnchorError, match="metres"):
        fit_of(tracker_of(metric=True), 1000.0)


def test_a_fit_that_can_not_be_computed_is_an_error_of_the_anchors(monkeypatch):
    def fail(*arguments, **options):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr(scale_tracker, "fit_scale", fail)
    with pytest.raises(AnchorError, match="Singular matrix"):
        fit_of(tracker_of())


def test_anchors_agree_unless_they_are_far_from_the_known_depth():
    known = Scale(6.0, 0.4)
    assert anchors_agree(anchors_of(), DISPARITY, known)
    assert anchors_agree(anchors_of(1.4), DISPARITY, known)
    assert not anchors_agree(anchors_of(0.001), DISPARITY, known)
    assert anchors_agree(anchors_of(0.001), DISPARITY, None)
    assert not anchors_agree(anchors_of(), DISPARITY, Scale(6.0, -5.0))
