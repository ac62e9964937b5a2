"""`redepth evaluate`."""

import base64
import csv
import json
import shutil

import cv2
import numpy as np
import pytest

from redepth_ros.cli.evaluate import OUTLIERS, sample_anchors
from redepth_ros.core.images import to_uint8
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene

FAST = ("--steps", 1, "--ensemble-size", 1)


def write_png(path, values):
    assert cv2.imwrite(str(path), values)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory):
    """Three rendered rooms, on which the embedded network has small errors, with an index.csv."""
    folder, textures = tmp_path_factory.mktemp("pairs"), atlas(1)
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["name", "rgb", "depth", "kind", "png_scale", "width", "height", "fx", "fy", "cx", "cy"]
        )
        for number, seed in enumerate((96_000_001, 96_000_002, 96_000_005)):
            scene = render(sample_scene(seed, len(textures[0]), 160, 120), textures)
            image = to_uint8(scene.image.permute(1, 2, 0).numpy())
            write_png(folder / f"{number}.png", image[:, :, ::-1])
            depth = (scene.depth.numpy() * 1000.0).round().astype(np.uint16)
            write_png(folder / f"{number}_depth.png", depth)
            camera = (130, 130, 79.5, 59.5) if number else ("",) * 4
            files = (f"{number}.png", f"{number}_depth.png")
            writer.writerow([f"room {number}", *files, "depth", 1000, 160, 120, *camera])
    return folder


@pytest.fixture
def quick_figures(monkeypatch):
    """Replaces the figures, whose drawing takes longer than the rest."""
    monkeypatch.setattr(
        "redepth_ros.cli.evaluate.plot_evaluation", lambda path, *arguments, **options: path.write_bytes(b"")
    )


def read_summary(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_second_call_continues_the_first(rooms, tmp_path, redepth_tiny):
    options = ("--out", tmp_path, "--steps", 3, "--ensemble-size", 1, "--anchors", 60)
    called = redepth_tiny("evaluate", rooms, *options, "--limit", 2)
    assert called.status == 0, called.err
    first = (tmp_path / "results.jsonl").read_text()
    assert len(first.splitlines()) == 2
    (tmp_path / "results.jsonl").write_text(first + '{"name": "room 2", "err')  # a power failure
    assert redepth_tiny("evaluate", rooms, *options).status == 0
    assert (tmp_path / "results.jsonl").read_text().startswith(first)
    summary = read_summary(tmp_path)
    assert summary["images"] == 3
    methods = ["fast", "refined", "fast + anchors", "anchored"]
    assert list(summary["summary"]) == methods
    for measures in summary["summary"].values():
        mean, low, high = measures["abs_rel"]
        assert 0 < low <= mean <= high < 1
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["method"]) for row in rows[:4]] == [("room 0", name) for name in methods]
    assert rows[0]["normal_angle"] == ""  # without a camera
    assert float(rows[4]["normal_angle"]) > 0
    report = (tmp_path / "report.html").read_text()
    for number in range(3):
        sheet = tmp_path / "sheets" / f"room_{number}.png"
        assert cv2.imread(str(sheet)) is not None
        assert base64.b64encode(sheet.read_bytes()).decode() in report


def test_a_damaged_file_is_skipped_until_it_is_repaired(rooms, tmp_path, redepth_tiny, quick_figures):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    original = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(b"half of a download")
    options = ("--out", tmp_path / "out", *FAST, "--anchors", 0)
    called = redepth_tiny("evaluate", folder, *options)
    assert called.status == 0, called.err
    assert "room 1 is skipped" in called.out
    assert read_summary(tmp_path / "out")["images"] == 2
    (folder / "1.png").write_bytes(original)
    assert redepth_tiny("evaluate", folder, *options).status == 0
    assert read_summary(tmp_path / "out")["images"] == 3


def test_an_image_with_refused_anchors_does_not_count(rooms, tmp_path, redepth_tiny, quick_figures):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "1_depth.png", np.full((120, 160), 3000, np.uint16))
    called = redepth_tiny("evaluate", folder, "--out", tmp_path / "out", *FAST, "--anchors", 60)
    assert called.status == 0, called.err
    assert "room 1 has no anchored results: the anchors " in called.out
    assert read_summary(tmp_path / "out")["images"] == 2
    with (tmp_path / "out" / "results.csv").open(newline="") as stream:
        methods = [row["method"] for row in csv.DictReader(stream) if row["image"] == "room 1"]
    assert methods == ["fast", "refined"]


def test_an_image_of_the_same_name_in_another_folder_is_evaluated(
    rooms, tmp_path, redepth_tiny, quick_figures
):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "0_depth.png", np.full((120, 160), 3000, np.uint16))
    options = ("--out", tmp_path / "out", *FAST, "--anchors", 0, "--limit", 1)
    found = []
    for place in (folder, rooms):
        assert redepth_tiny("evaluate", place, *options).status == 0
        found.append(read_summary(tmp_path / "out")["summary"]["fast"]["abs_rel"])
    assert found[0] != found[1]


def test_results_of_other_settings_are_refused(rooms, tmp_path, redepth_tiny, quick_figures):
    options = ("--out", tmp_path, "--ensemble-size", 1, "--anchors", 0, "--limit", 1)
    assert redepth_tiny("evaluate", rooms, *options, "--steps", 1).status == 0
    called = redepth_tiny("evaluate", rooms, *options, "--steps", 2)
    assert called.status == 1
    assert "has results of other settings" in called.err


def test_sizes_that_differ_are_named(rooms, tmp_path, redepth_tiny):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "0_depth.png", np.full((60, 80), 3000, np.uint16))
    called = redepth_tiny("evaluate", folder, "--out", tmp_path / "out", *FAST, "--limit", 1)
    assert called.status == 1
    assert "the image has 160x120 pixels, its depth 80x60; they must be equal" in called.out
    assert "none of the 1 images can be evaluated" in called.err


def test_sampled_anchors_are_measured_pixels_with_noise_and_outliers():
    truth = np.full((40, 50), 2.0, np.float32)
    truth[:20], truth[39] = np.nan, 8.0
    depth = sample_anchors(truth, 200, seed=3).to_depth()
    measured = np.isfinite(depth)
    assert measured.sum() == 200
    assert np.isfinite(truth[measured]).all()
    errors = np.abs(depth[measured] / truth[measured] - 1.0)
    assert (errors < 0.05).mean() >= 1.0 - OUTLIERS
    assert (errors > 0.05).mean() > OUTLIERS / 2
    np.testing.assert_array_equal(sample_anchors(truth, 200, seed=3).to_depth(), depth)
