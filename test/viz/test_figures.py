"""Figures: written for every kind of map, with their titles and legends."""

import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.refine.result import Step
from redepth_ros.viz.figures import (
    plot_comparison,
    plot_depth,
    plot_evaluation,
    plot_losses,
    plot_refinement,
)

HEIGHT, WIDTH = 24, 32
IMAGE = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
CAMERA = PinholeCamera.centered(30.0, WIDTH, HEIGHT)
SLOPE = np.linspace(1.0, 4.0, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
WITH_INVALID = np.where(np.eye(HEIGHT, WIDTH) > 0, np.float32(np.nan), SLOPE)
MAPS = {
    "slope": SLOPE,
    "invalid pixels": WITH_INVALID,
    "only invalid pixels": np.full((HEIGHT, WIDTH), np.nan, np.float32),
    "constant": np.full((HEIGHT, WIDTH), 2.0, np.float32),
    "zero and infinity": np.where(SLOPE > 2, np.float32(np.inf), np.float32(0.0)),
}
LEGEND = {"invalid", "normal to the right", "normal up", "normal towards the camera"}


@pytest.fixture
def figures(monkeypatch):
    """Collect the figures that are written."""
    found, save = [], Figure.savefig

    def keep(figure, path, dpi):
        save(figure, path, dpi=30)
        found.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


@pytest.fixture
def drawn(monkeypatch):
    """Collect the texts of each figure that is written; no warning may be given meanwhile."""
    found, save = [], Figure.savefig

    def keep(figure, path, dpi):
        save(figure, path, dpi=30)
        found.append({text.get_text() for text in figure.findobj(Text)})

    monkeypatch.setattr(Figure, "savefig", keep)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield found


def is_image(path):
    return cv2.imread(str(path)) is not None


def test_a_title_is_no_formula(tmp_path, drawn):
    """Names of files may contain any number of $."""
    title = r"a $\frac{ b$ and $x_y$"
    plot_depth(tmp_path / "a.png", IMAGE, MAPS["slope"], CAMERA, unit="m", title=title)
    assert title in drawn[0]


@pytest.mark.parametrize("name", MAPS)
def test_plot_depth_accepts_every_map(tmp_path, drawn, name):
    plot_depth(tmp_path / "a.png", IMAGE, MAPS[name], CAMERA, unit="m", title="scene 1")
    assert is_image(tmp_path / "a.png")
    expected = {"scene 1", "image", "fast depth", "normals", "depth (m); colour linear in 1 / depth"}
    assert expected | LEGEND <= drawn[0]


@pytest.mark.parametrize("name", MAPS)
def test_plot_refinement_accepts_every_map(tmp_path, drawn, name):
    fast, refined = (MAPS[name], SLOPE) if name == "invalid pixels" else (SLOPE, MAPS[name])
    camera = OrthographicCamera() if name == "slope" else CAMERA
    plot_refinement(tmp_path / "a.png", IMAGE, fast, refined, camera, unit="m", title="a.png")
    assert is_image(tmp_path / "a.png")
    expected = {"a.png", "fast depth", "refined depth", "change by refinement", "normals, refined"}
    assert expected | LEGEND <= drawn[0]
    assert not any("AbsRel" in text or "true" in text for text in drawn[0])


@pytest.mark.parametrize("name", MAPS)
def test_plot_refinement_shows_true_depth_and_errors(tmp_path, drawn, name):
    plot_refinement(
        tmp_path / "a.png",
        IMAGE,
        1.25 * SLOPE,
        0.9 * SLOPE,
        CAMERA,
        unit="m",
        title="keyframe 1",
        outcome="kept fast",
        truth=MAPS[name],
    )
    assert {"keyframe 1: kept fast", "true depth", "normals, true"} | LEGEND <= drawn[0]
    if "slope" in name or name == "invalid pixels":
        assert {"fast depth, AbsRel 0.2500", "refined depth, AbsRel 0.1000"} <= drawn[0]
    if name == "only invalid pixels":
        assert {"fast depth", "refined depth"} <= drawn[0]


def shown(figure, title):
    """Return the image of the panel with a title."""
    (image,) = next(axis for axis in figure.axes if axis.get_title() == title).images
    return image


def test_plot_refinement_shows_relative_change_and_colours_by_the_truth(tmp_path, figures):
    arguments = (tmp_path / "a.png", IMAGE, SLOPE, 1.1 * SLOPE, CAMERA)
    plot_refinement(*arguments, unit="m", title="a.png")
    np.testing.assert_allclose(shown(figures[0], "change by refinement").get_array(), 10.0, rtol=1e-4)
    assert shown(figures[0], "refined depth").norm.vmax == pytest.approx(np.percentile(SLOPE, 95))
    plot_refinement(*arguments, unit="m", title="a.png", truth=2 * SLOPE)
    assert shown(figures[1], "true depth").norm.vmax == pytest.approx(np.percentile(2 * SLOPE, 95))
    assert shown(figures[1], "true depth").norm is shown(figures[1], "fast depth, AbsRel 0.5000").norm


def test_ticks_of_a_constant_map_do_not_coincide(tmp_path, figures):
    plot_depth(tmp_path / "a.png", IMAGE, MAPS["constant"], CAMERA, unit="m")
    bar = next(axis for axis in figures[0].axes if "1 / depth" in axis.get_xlabel())
    assert len(set(np.round(bar.get_xticks(), 4))) == 5


@pytest.mark.parametrize("name", MAPS)
def test_plot_evaluation_accepts_every_map(tmp_path, drawn, name):
    depths = {"fast": 1.1 * SLOPE, "refined": MAPS[name]}
    plot_evaluation(tmp_path / "a.png", IMAGE, SLOPE, depths)
    assert is_image(tmp_path / "a.png")
    expected = {"image", "true depth", "fast", "fast, AbsRel 0.1000", "invalid"}
    assert expected | {"depth / true depth - 1, %; blue: too far"} <= drawn[0]


def test_plot_evaluation_accepts_a_truth_without_valid_pixels(tmp_path, drawn):
    plot_evaluation(tmp_path / "a.png", IMAGE, MAPS["only invalid pixels"], {"fast": SLOPE})
    assert not any("AbsRel" in text for text in drawn[0])


def test_plot_losses_draws_one_line_for_members_that_were_optimised_together(tmp_path, drawn):
    first = [Step(0, 2, 3, step, 4, 1.0, 0.5, 0.5, 0.0) for step in range(1, 5)]
    plot_losses(tmp_path / "a.png", first)
    last = [replace(step, members_done=2, members_at_work=1, loss_anchors=0.1) for step in first]
    plot_losses(tmp_path / "a.png", [*first, *last])
    plot_losses(tmp_path / "a.png", [])
    assert is_image(tmp_path / "a.png")
    assert {"SDS loss", "smoothness loss", "step"} <= drawn[0]
    assert not {"anchor loss", "members 1 to 2"} & drawn[0]
    assert {"anchor loss", "members 1 to 2", "member 3"} <= drawn[1]


@pytest.mark.parametrize("name", MAPS)
def test_plot_comparison_accepts_every_map(tmp_path, drawn, name):
    depths = {"fast": MAPS[name], "fused": 1.25 * SLOPE, "true depth": SLOPE}
    plot_comparison(tmp_path / "a.png", IMAGE, SLOPE, depths, unit="m", columns=2, title="Motorcycle")
    assert is_image(tmp_path / "a.png")
    expected = {"Motorcycle", "image", "fused, AbsRel 0.2500", "true depth", "invalid"}
    assert expected <= drawn[0]


def test_plot_comparison_shows_anchors_and_does_not_count_them(tmp_path, drawn):
    depth = SLOPE.copy()
    depth[2, 3] = 100.0
    anchors = Anchors(np.array([2]), np.array([3]), np.array([2.0]), HEIGHT, WIDTH)
    plot_comparison(tmp_path / "a.png", IMAGE, SLOPE, {"fused": depth}, unit="m", columns=2, anchors=anchors)
    assert {"image, 1 anchors", "fused, AbsRel 0.0000"} <= drawn[0]


def test_plot_comparison_fills_its_rows(tmp_path):
    with pytest.raises(ValueError, match="3 maps do not fill rows of 2"):
        plot_comparison(tmp_path / "a.png", IMAGE, SLOPE, {"a": SLOPE, "b": SLOPE}, unit="m", columns=2)
