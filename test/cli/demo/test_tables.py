"""The demo's tables and figures."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

pytest.importorskip("rclpy")

from redepth_ros.cli.anchor_patterns import sample_anchors
from redepth_ros.cli.demo import tables
from redepth_ros.cli.demo.motorcycle import Motorcycle
from redepth_ros.cli.demo.records import Goal
from redepth_ros.cli.demo.tables import (
    photograph_label,
    plot_keyframe,
    print_keyframes,
    print_motorcycle,
    print_stream,
    write_figures,
)
from redepth_ros.core.stream.sliding_window import SlidingWindow
from redepth_ros.data.rendered import SampleImage

from .test_records import TRUTH, make_keyframe

WRONG = TRUTH**1.2


@pytest.fixture
def watcher():
    diagnostics = {
        "model": "tiny",
        "device": "cpu",
        "frames overwritten": "2",
        "model time median (ms)": "9.5",
    }
    keyframe = make_keyframe(WRONG, TRUTH)
    keyframes = [keyframe, make_keyframe(value=7)]
    goals = [Goal(one.outcome, one.message, one) for one in keyframes]
    goals += [Goal("failed", "no memory"), Goal("failed", "no memory"), Goal()]
    return SimpleNamespace(
        images=SlidingWindow(),
        latencies=SlidingWindow(),
        latencies_alone=None,
        scenes=[keyframe.scene],
        keyframes=keyframes,
        goals=dict(enumerate(goals)),
        diagnostics=diagnostics | {"depth": "relative, not metres: set scale and shift"},
    )


@pytest.fixture
def known(watcher):
    scene = watcher.keyframes[0].scene
    return {scene.key: SampleImage("relief", scene.image, TRUTH)}


def printed(function, *arguments):
    stream = io.StringIO()
    function(Console(file=stream, width=80), *arguments)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return "\n".join(lines)


def test_every_keyframe_is_listed_with_its_outcome_and_errors(watcher, known):
    text = printed(print_keyframes, watcher, known)
    (first, second) = (line for line in text.splitlines() if "16x12" in line)
    for part in ("1", "relief", "refined", "1.5 s", "-100.0%"):
        assert part in first
    assert "relief" not in second
    assert "5 keyframes" in text
    assert sum("failed" in line and "│" in line for line in text.splitlines()) == 2
    assert sum("not finished" in line and "│" in line for line in text.splitlines()) == 1
    assert "outcomes: 2 refined, 2 failed, 1 not finished" in text
    assert text.count("failed: no memory") == 1
    assert "median delay from image to refined depth: 1.5 s" in text


def test_without_keyframes(watcher):
    watcher.keyframes, watcher.goals = [], {}
    assert "outcomes: none" in printed(print_keyframes, watcher, {})


def test_photographs_without_truth_are_examples_of_the_embedded_networks(
    watcher, known, monkeypatch, tmp_path
):
    titles = []
    monkeypatch.setattr(tables, "plot_depth", lambda *arguments, title, **options: titles.append(title))
    monkeypatch.setattr(
        tables, "plot_refinement", lambda *arguments, outcome, **options: titles.append(outcome)
    )
    label = photograph_label("tiny", "tiny")
    assert label == "photograph without true depth: an example of the embedded networks, not of a real one"
    assert photograph_label("real", "real") == "photograph without true depth"
    write_figures(Console(file=io.StringIO()), watcher, known, tmp_path, label)
    scene, with_truth, photograph = titles
    assert scene == ""
    assert label not in with_truth
    assert photograph == f"refined; {label}"
    text = printed(print_keyframes, watcher, known, label)
    assert "16x12 photograph" in text
    assert "an example of the embedded networks" in " ".join(text.split())


def test_the_errors_of_all_methods_are_printed():
    depths = {"fused": np.float32(1.1) * TRUTH, "kept fast, anchored": np.float32(1.2) * TRUTH}
    anchors = sample_anchors(TRUTH, 10, 0)
    motorcycle = Motorcycle(np.zeros((12, 16, 3), np.uint8), TRUTH, anchors, depths, "kept fast")
    text = printed(print_motorcycle, motorcycle)
    assert "10 simulated lidar returns on 16 lines, 10% wrong" in " ".join(text.split())
    assert "0.1000" in text
    assert "refinement with the returns: kept fast" in text


def test_the_stream_table(watcher):
    text = printed(print_stream, watcher, "sample images")
    for row in (
        "images in",
        "depth out",
        "latency, median",
        "frames overwritten",
        "model: tiny on cpu",
        "not metres",
    ):
        assert row in text


def test_the_title_of_a_keyframe_has_outcome_and_errors(watcher, known, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(tables, "plot_refinement", lambda *arguments, **options: calls.append(options))
    keyframe = watcher.keyframes[0]
    plot_keyframe(tmp_path / "keyframe.png", keyframe, None)
    plot_keyframe(tmp_path / "keyframe.png", keyframe, known[keyframe.scene.key])
    assert (calls[0]["title"], calls[0]["outcome"]) == ("keyframe, 1.5 s after its image", "refined")
    assert calls[0]["truth"] is None
    assert calls[1]["outcome"].startswith("refined, AbsRel 0.")
    assert "0.0000 refined (-100.0%)" in calls[1]["outcome"]
    assert calls[1]["truth"] is TRUTH


def test_figures_of_scenes_and_keyframes_are_written(watcher, known, tmp_path):
    stream = io.StringIO()
    write_figures(Console(file=stream, width=80), watcher, known, tmp_path)
    names = ["keyframe_1.png", "keyframe_2.png", "scene_1.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())
    assert stream.getvalue().count("wrote") == 3
