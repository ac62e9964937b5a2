"""The photograph with true depth and simulated lidar returns."""

import cv2
import numpy as np
import pytest

from redepth_ros.cli.demo import motorcycle
from redepth_ros.cli.demo.motorcycle import ALIGNED, compare_on_motorcycle
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError
from redepth_ros.core.refine import run
from redepth_ros.data.motorcycle import CAMERA, load_motorcycle


@pytest.fixture
def small(monkeypatch):
    """The photograph at a third of its size."""
    image, truth = load_motorcycle()
    image, truth = image[::3, ::3].copy(), truth[::3, ::3].copy()
    monkeypatch.setattr(motorcycle, "load_motorcycle", lambda: (image, truth))
    camera = CAMERA.resized(truth.shape[1], truth.shape[0])
    assert isinstance(camera, PinholeCamera)
    monkeypatch.setattr(motorcycle, "CAMERA", camera)
    return truth


def test_all_methods_have_an_error_and_a_map(engine, small, tmp_path):
    found = compare_on_motorcycle(engine, steps=1, ensemble_size=1)
    assert len(found.anchors) == 200
    assert len(np.unique(found.anchors.rows)) == 16
    assert list(found.errors)[:3] == [ALIGNED, "interpolated", "fused"]
    assert found.errors["fused"] < found.errors[ALIGNED]
    found.plot(tmp_path / "motorcycle.png", "tiny with tiny")
    assert cv2.imread(str(tmp_path / "motorcycle.png")) is not None


def test_returns_that_do_not_determine_the_scale(engine, small, monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise AnchorError("one depth")

    monkeypatch.setattr(motorcycle, "fit_anchors", refuse)
    monkeypatch.setattr(run, "fit_scale", refuse)
    found = compare_on_motorcycle(engine, steps=1, ensemble_size=1)
    assert found.outcome == "kept fast"
    assert list(found.errors) == [ALIGNED, "interpolated", "fused", "kept fast, anchored"]
    assert found.errors["kept fast, anchored"] < found.errors[ALIGNED]
    found.plot(tmp_path / "motorcycle.png", "tiny with tiny")
    assert cv2.imread(str(tmp_path / "motorcycle.png")) is not None
