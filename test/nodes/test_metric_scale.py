"""The scale of the fast depth from anchors of a fake source."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus
from fakes import CAMERA, FakeAnchorSource, FakeClock, header_at

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ImageError, OutOfMemory
from redepth_ros.core.metric import scale_tracker
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.metric.scale import Scale
from redepth_ros.nodes import metric_scale
from redepth_ros.nodes.metric_scale import MetricScale
from redepth_ros.nodes.settings import DepthSettings

DISPARITY = torch.linspace(0.2, 1.2, 24 * 32).reshape(24, 32)
SCALE, SHIFT = 6.0, 0.4
TRUTH = (SCALE / (DISPARITY + SHIFT)).numpy()


def anchors_of(depth=TRUTH, count=200, factor=1.0):
    """Return the anchors of some pixels of a depth, times a factor."""
    anchors = anchors_from_depth(depth)
    chosen = np.linspace(0, len(anchors) - 1, count).astype(int)
    return Anchors(anchors.rows[chosen], anchors.columns[chosen], factor * anchors.depth[chosen], 24, 32)


class Setup:
    """A MetricScale, its source and its warnings."""

    def __init__(self, items=(), metric=False, source=True, scale_source="", **parameters):
        self.settings = DepthSettings(**{"anchors": "depth", "scale_timeout": 1.0, **parameters})
        self.source = FakeAnchorSource(list(items)) if source else None
        self.warnings = []
        self.metric_scale = MetricScale(
            self.settings, metric, self.source, self.warnings.append, scale_source
        )
        self.seconds = 1000.0

    def update(self, item=None, seconds=0.1, disparity=DISPARITY, camera=CAMERA, known=None):
        """Process a frame some seconds after the last one; return its scale and anchors."""
        self.seconds += seconds
        if self.source is not None:
            self.source.items = [item]
        return self.metric_scale.update(header_at(self.seconds), disparity, camera, self.settings, known)

    def health(self):
        return self.metric_scale.state(self.settings).health


def assert_true(scale, rel=0.02):
    np.testing.assert_allclose(scale.depth(DISPARITY).numpy(), TRUTH, rtol=rel)


def test_without_anchors_the_parameters_give_the_scale():
    setup = Setup(anchors="none", source=False, scale=2.0, shift=0.5)
    assert setup.update() == (Scale(2.0, 0.5), None)
    assert not setup.metric_scale.anchored
    assert setup.metric_scale.scale is None
    assert setup.health().message == "depth is in metres, by the scale and shift parameters"
    assert set(setup.health().values) == {"depth"}


@pytest.mark.parametrize(
    ("metric", "unit"), [(False, "relative, not metres"), (True, "in metres (metric model)")]
)
def test_without_anchors_and_parameters_the_model_gives_the_unit(metric, unit):
    setup = Setup(anchors="none", source=False, metric=metric)
    assert setup.update() == (Scale(), None)
    assert unit in setup.health().values["depth"]


def test_the_calibration_gives_the_scale_of_a_network_that_knows_it():
    setup = Setup(anchors="none", source=False, scale_source="calibration")
    assert "until there is a camera_info" in setup.health().values["depth"]
    setup.settings = replace(setup.settings, scale=2.0)
    assert setup.update(known=Scale(0.5))[0] == Scale(1.0)
    assert setup.health().message == "depth is in metres, by the calibration of the camera"
    assert setup.update(camera=None)[0] == Scale(1.0)  # a camera_info that is late changes no unit
    setup.update(known=Scale(0.5), camera=None)
    assert "by a field of view that the model estimates" in setup.health().message


def test_anchors_replace_the_scale_that_a_network_knows():
    setup = Setup(scale_source="calibration")
    assert setup.update(None, known=Scale(1.0)) == (Scale(1.0), None)
    assert setup.update(None, known=Scale(0.5)) == (Scale(0.5), None)
    assert_true(setup.update(anchors_of(), known=Scale(0.5))[0])


def test_a_network_with_a_field_of_view_of_its_own_announces_metres():
    setup = Setup(anchors="none", source=False, scale_source="image")
    assert setup.health().message.startswith("depth is in metres, by the calibration or a field")


@pytest.mark.parametrize(
    ("anchors", "words"),
    [
        ("none", "relative, not metres: this model needs a prompt"),
        ("height", "not in metres: anchors is"),
    ],
)
def test_a_network_without_its_prompt_is_relative(anchors, words):
    setup = Setup(anchors=anchors, camera_height=1.0, source=False, scale_source="prompt")
    setup.update(disparity=ground(), camera=GROUND_CAMERA)
    assert words in setup.health().values["depth"]


def test_there_is_no_scale_before_the_first_anchors():
    setup = Setup()
    assert setup.update(None) == (None, None)
    health = setup.health()
    assert health.values == {"depth": "invalid: no usable anchors yet", "scale": "none yet"}
    assert not setup.warnings


@pytest.mark.parametrize("parameters", [{"metric": True}, {"scale": 3.0}, {"shift": 0.3}])
def test_before_the_first_anchors_a_known_scale_is_used(parameters):
    setup = Setup(**parameters)
    scale, _ = setup.update(None)
    assert scale == setup.settings.fixed_scale(parameters.get("metric", False))


def test_anchors_give_the_scale():
    setup = Setup()
    anchors = anchors_of()
    scale, used = setup.update(anchors)
    assert_true(scale)
    assert used is anchors
    assert setup.metric_scale.scale == scale
    health = setup.health()
    assert health.level == DiagnosticStatus.OK
    assert health.message == "depth is in metres, by anchors"
    assert float(health.values["scale"]) == pytest.approx(SCALE, rel=0.02)
    assert float(health.values["shift"]) == pytest.approx(SHIFT, abs=0.05)
    assert health.values["anchors"] == "200"
    assert health.values["anchors agreeing (%)"] == "100"
    assert float(health.values["scale age (s)"]) == 0.0


def test_a_metric_network_has_no_shift():
    setup = Setup(metric=True)
    scale, _ = setup.update(anchors_of((1.3 / DISPARITY).numpy()))
    assert (scale.scale, scale.shift) == (pytest.approx(1.3, rel=0.01), 0.0)


def test_the_residuals_are_averaged_over_frames():
    setup = Setup()
    rng = np.random.default_rng(0)
    noisy = (TRUTH * (1.0 + 0.05 * rng.standard_normal(TRUTH.shape))).astype(np.float32)
    setup.update(anchors_of(noisy))
    first = setup.metric_scale.residual_stddev
    assert first > 0.003
    setup.update(anchors_of())
    assert setup.metric_scale.residual_stddev == pytest.approx(0.9 * first, rel=0.15)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (AnchorError("the topic is silent"), "the topic is silent"),
        (ImageError("0x0 pixels"), "0x0 pixels"),
        (anchors_of(factor=1000.0), "times as far|millimetres"),
        (anchors_of((7.0 - np.clip(TRUTH, 0.1, 6.9)).astype(np.float32)), "anchors"),
    ],
)
def test_unusable_anchors_keep_the_last_good_scale_with_a_warning(item, words):
    setup = Setup()
    setup.update(anchors_of())
    for _ in range(2):
        scale, used = setup.update(item)
        assert_true(scale)
        assert used is None
    assert len(setup.warnings) == 2
    assert re.search(f"anchors give no scale, the last good scale is kept: .*({words})", setup.warnings[0])


def test_anchors_too_few_for_a_fit_are_kept_for_the_fusion():
    setup = Setup()
    setup.update(anchors_of())
    few = anchors_of(count=12)
    scale, used = setup.update(few)
    assert_true(scale)
    assert used is few
    assert "12 anchors" in setup.warnings[0]


def test_unusable_first_anchors_leave_no_scale():
    setup = Setup()
    assert setup.update(AnchorError("the topic is silent")) == (None, None)
    assert setup.warnings == ["anchors give no scale, there is no scale yet: the topic is silent"]


def test_anchors_that_the_filter_rejects_are_not_used():
    setup = Setup(scale_measurement_noise=0.001)
    for _ in range(5):
        setup.update(anchors_of())
    scale, used = setup.update(anchors_of(factor=3.0))
    assert used is None
    assert_true(scale)
    assert not setup.warnings


def test_min_anchors_applies_to_the_next_frame():
    setup = Setup()
    setup.settings = DepthSettings(anchors="depth", min_anchors=500)
    assert setup.update(anchors_of())[0] is None
    assert "at least 500" in setup.warnings[0]


def test_a_lost_scale_is_kept_with_a_warning_and_is_found_again():
    setup = Setup()
    setup.update(anchors_of())
    scale, _ = setup.update(None, seconds=3.0)
    assert_true(scale)
    health = setup.health()
    assert health.level == DiagnosticStatus.WARN
    assert health.message == "no usable anchors for 3 s: the last good scale is kept"
    assert "by anchors (3.0 s ago)" in health.values["depth"]
    for _ in range(4):
        setup.update(anchors_of())
    assert setup.health().level == DiagnosticStatus.OK


def test_unmatched_stamps_are_a_warning(monkeypatch):
    clock = FakeClock()
    monkeypatch.setattr(metric_scale, "monotonic", clock)
    setup = Setup()
    setup.source.stamp_distance = 0.3
    setup.update(None)
    clock.advance(0.9)
    setup.update(None)
    assert setup.health().level == DiagnosticStatus.OK
    clock.advance(0.2)
    health = setup.health()
    assert health.level == DiagnosticStatus.WARN
    assert (
        "no anchors within anchor_tolerance of an image for 1 s: their stamps are 0.300 s apart"
        in health.message
    )
    setup.update(anchors_of())
    assert setup.health().level == DiagnosticStatus.OK


# The height above the ground.

GROUND_CAMERA = PinholeCamera(40.0, 40.0, 31.5, 23.5, 64, 48)


def ground(height=1.0, scale=2.0):
    """Return the disparity of a flat ground below the camera, and a wall 20 m away."""
    v = torch.arange(48.0)[:, None].expand(48, 64)
    down = (v - 23.5) / 40.0
    depth = torch.where(down > 0, height / down.clamp_min(1e-3), 20.0).clamp_max(20.0)
    return scale / depth


def test_the_camera_height_gives_the_scale():
    setup = Setup(anchors="height", camera_height=1.0, shift=0.0, metric=True, source=False)
    for height in (1.0, 1.8):
        setup.settings = DepthSettings(anchors="height", camera_height=height, scale_timeout=1.0)
        for _ in range(6):
            scale, used = setup.update(disparity=ground(), camera=GROUND_CAMERA)
        assert scale.scale == pytest.approx(2.0 * height, rel=0.02)
        assert used is None
    assert float(setup.health().values["scale standard deviation (%)"]) > 0


def test_the_camera_height_needs_a_calibration_and_a_ground():
    setup = Setup(anchors="height", camera_height=1.0, metric=True, source=False)
    setup.update(disparity=ground(), camera=None)
    assert "the image has no camera_info" in setup.warnings[-1]
    setup.update(disparity=torch.ones(48, 64), camera=GROUND_CAMERA)
    assert "plane below the camera" in setup.warnings[-1]


@pytest.mark.parametrize(
    ("options", "count"),
    [({}, 1), ({"shift": 0.5}, 0), ({"metric": True}, 0), ({"scale_source": "calibration"}, 0)],
)
def test_the_camera_height_of_a_relative_network_needs_its_shift(options, count):
    setup = Setup(anchors="height", camera_height=1.0, source=False, **options)
    assert len(setup.warnings) == count
    assert all("set shift" in warning for warning in setup.warnings)
    setup.update(disparity=ground(), camera=GROUND_CAMERA)
    health = setup.health()
    assert health.level == (DiagnosticStatus.WARN if count else DiagnosticStatus.OK)
    unit = health.values["depth"]
    assert unit.startswith("not in metres: anchors is height" if count else "in metres, by the height")
    assert "anchors" not in health.values


@pytest.mark.parametrize("where", ["fit_scale", "filter"])
def test_any_error_of_the_fit_keeps_the_last_good_scale(monkeypatch, where):
    setup = Setup()
    setup.update(anchors_of())

    def fail(*arguments, **options):
        raise ZeroDivisionError("division by zero")

    if where == "fit_scale":
        monkeypatch.setattr(scale_tracker, "fit_scale", fail)
    else:
        monkeypatch.setattr(setup.metric_scale._tracker, "update", fail)
    assert_true(setup.update(anchors_of())[0])
    assert setup.warnings == [
        "anchors give no scale, the last good scale is kept: ZeroDivisionError: division by zero"
    ]
    monkeypatch.setattr(scale_tracker, "fit_scale", lambda *a, **o: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(OutOfMemory):
        setup.update(anchors_of())


def test_right_anchors_are_accepted_again_after_a_first_scale_that_is_far_off():
    setup = Setup()
    setup.update(anchors_of(factor=1000.0))
    for _ in range(scale_tracker.CONSISTENT_FITS - 1):
        setup.update(anchors_of())
        assert "REP 118" in setup.warnings[-1]
    scale, _ = setup.update(anchors_of())
    assert_true(scale)
    assert "the scale starts anew: by the last 10 anchors everything is 0.001 " in setup.warnings[-1]
    setup.warnings.clear()
    assert_true(setup.update(anchors_of())[0])
    assert not setup.warnings


def test_anchors_of_another_unit_are_never_accepted_with_a_metric_network():
    setup = Setup(metric=True)
    metric = torch.from_numpy(1.0 / TRUTH).float()
    for _ in range(2 * scale_tracker.CONSISTENT_FITS):
        setup.update(anchors_of(factor=1000.0), disparity=metric)
        assert "REP 118" in setup.warnings[-1]
    assert setup.metric_scale.scale is None
