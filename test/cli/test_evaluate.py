"""`redepth evaluate`."""

import base64
import csv
import json
import shutil

import cv2
import numpy as np
import pytest
from prompt_networks import save_prompt_network

from redepth_ros.cli import evaluate_task
from redepth_ros.cli.anchor_patterns import AnchorSettings
from redepth_ros.cli.evaluate_task import EvaluateTask, Sample
from redepth_ros.cli.methods import fit_anchors
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metrics import depth_errors
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.engine import Engine
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
        "redepth_ros.cli.evaluate_task.plot_evaluation", lambda file, *arguments, **options: None
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
    methods = ["fast", "refined", "fast + anchors", "interpolated", "fused", "anchored"]
    assert list(summary["summary"]) == methods
    for measures in summary["summary"].values():
        low, high = measures["abs_rel"]["interval"]
        assert 0 < low <= measures["abs_rel"]["mean"] <= high < 1
        assert measures["abs_rel"]["images"] == 3
        assert measures["normal_angle"]["images"] == 2
    assert summary["summary"]["fused"]["abs_rel"]["mean"] < summary["summary"]["fast"]["abs_rel"]["mean"]
    with (tmp_path / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["method"]) for row in rows[:6]] == [("room 0", name) for name in methods]
    assert rows[0]["normal_angle"] == ""  # without a camera
    assert float(rows[6]["normal_angle"]) > 0
    with (tmp_path / "summary.csv").open(newline="") as stream:
        assert {row["images"] for row in csv.DictReader(stream) if row["measure"] == "abs_rel"} == {"3"}
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


def test_an_image_whose_scale_is_refused_counts_where_no_scale_is_needed(
    rooms, tmp_path, redepth_tiny, quick_figures
):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "1_depth.png", np.full((120, 160), 3000, np.uint16))
    out = tmp_path / "out"
    called = redepth_tiny("evaluate", folder, "--out", out, *FAST, "--anchors", 60, "--limit", 2)
    assert called.status == 0, called.err
    assert "room 1 has no fast + anchors: the anchors " in called.out
    assert read_summary(out)["images"] == 2
    means = {name: one["abs_rel"] for name, one in read_summary(out)["summary"].items()}
    counts = {"fast": 2, "refined": 2, "fast + anchors": 1, "interpolated": 2, "fused": 2, "anchored": 2}
    assert {name: mean["images"] for name, mean in means.items()} == counts
    assert all((mean["interval"] is None) == (mean["images"] == 1) for mean in means.values())
    common = "AbsRel over the images that all methods have (1): fast 0."
    assert common in called.out
    report = (out / "report.html").read_text()
    assert common in report
    assert "No fast + anchors: the anchors " in report
    with (out / "results.csv").open(newline="") as stream:
        methods = [row["method"] for row in csv.DictReader(stream) if row["image"] == "room 1"]
    assert methods == ["fast", "refined", "interpolated", "fused", "anchored"]


def test_the_figure_shows_the_errors_of_the_table(rooms, tmp_path, redepth_tiny, monkeypatch):
    drawn = {}

    def plot(file, image, truth, depths, *, unit):
        file.write(b"")
        for name, depth in depths.items():
            both = np.isfinite(depth) & np.isfinite(truth)
            drawn[name] = depth_errors(depth[both], truth[both])["abs_rel"]

    monkeypatch.setattr("redepth_ros.cli.evaluate_task.plot_evaluation", plot)
    called = redepth_tiny("evaluate", rooms, "--out", tmp_path, *FAST, "--anchors", 60, "--limit", 1)
    assert called.status == 0, called.err
    errors = json.loads((tmp_path / "results.jsonl").read_text())["errors"]
    assert drawn == pytest.approx({name: one["abs_rel"] for name, one in errors.items()})


def test_an_image_of_the_same_name_in_another_folder_is_evaluated(
    rooms, tmp_path, redepth_tiny, quick_figures
):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "0_depth.png", np.full((120, 160), 3000, np.uint16))
    options = ("--out", tmp_path / "out", *FAST, "--anchors", 0, "--limit", 1)
    found = []
    for place in (folder, rooms):
        assert redepth_tiny("evaluate", place, *options).status == 0
        found.append(read_summary(tmp_path / "out")["summary"]["fast"]["abs_rel"]["mean"])
    assert found[0] != found[1]


def test_a_captioner_that_is_missing_is_named(rooms, tmp_path, redepth):
    called = redepth("evaluate", rooms, "--out", tmp_path, "--captioner", "missing")
    assert called.status == 1
    assert "captioner 'missing' is not a folder" in called.err


def test_results_of_other_settings_are_refused(rooms, tmp_path, redepth_tiny, quick_figures):
    options = ("--out", tmp_path, "--ensemble-size", 1, "--anchors", 0, "--limit", 1)
    assert redepth_tiny("evaluate", rooms, *options, "--steps", 1).status == 0
    called = redepth_tiny("evaluate", rooms, *options, "--steps", 2)
    assert called.status == 1
    assert "has results of other settings" in called.err
    assert redepth_tiny("evaluate", rooms, *options, "--steps", 2, "--overwrite").status == 0
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1
    summary = read_summary(tmp_path)
    assert summary["configuration"]["settings"]["steps"] == 2
    assert {"redepth_ros", "torch", "transformers", "diffusers"} <= set(summary["versions"])
    assert len(summary["configuration"]["prior_hash"]) == 16
    assert sum(summary["outcomes"].values()) == 1


@pytest.mark.parametrize("out", ["file", "file/folder"])
def test_a_folder_that_can_not_be_made_is_named_before_the_work(out, rooms, tmp_path, redepth_tiny):
    (tmp_path / "file").write_text("")
    called = redepth_tiny("evaluate", rooms, "--out", tmp_path / out, *FAST)
    assert called.status == 1
    assert f"'{tmp_path / out}' can't be written" in called.err


@pytest.mark.parametrize("name", ["results.csv", "summary.csv", "report.html"])
def test_a_file_that_can_not_be_written_is_named(
    name, rooms, tmp_path, redepth_tiny, quick_figures, monkeypatch
):
    """What was computed before is kept."""
    monkeypatch.setattr("redepth_ros.cli.report.embed_image", lambda path: "")
    command = ("evaluate", rooms, "--out", tmp_path, "--limit", 1, *FAST)
    (tmp_path / "configuration.json").write_text("{}")
    (tmp_path / name).mkdir()
    called = redepth_tiny(*command, "--overwrite")
    assert called.status == 1
    assert f"{name}' can't be written: Is a directory" in called.err
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_a_folder_of_other_files_is_refused(rooms, redepth_tiny):
    called = redepth_tiny("evaluate", rooms, "--out", rooms, *FAST, "--overwrite")
    assert called.status == 1
    assert "is not empty and holds no results of redepth evaluate" in called.err


def test_the_pattern_of_the_anchors_is_part_of_the_settings(rooms, tmp_path, redepth_tiny, quick_figures):
    options = ("--out", tmp_path, *FAST, "--anchors", 40, "--limit", 1)
    lidar = (*options, "--anchor-pattern", "lidar16", "--outliers", 0.2)
    assert redepth_tiny("evaluate", rooms, *lidar).status == 0
    assert read_summary(tmp_path)["configuration"]["anchors"] == {
        "count": 40,
        "pattern": "lidar16",
        "outliers": 0.2,
    }
    assert redepth_tiny("evaluate", rooms, *lidar).status == 0
    for other in (options, (*lidar, "--outliers", 0.3), (*lidar, "--anchor-pattern", "corner")):
        called = redepth_tiny("evaluate", rooms, *other)
        assert called.status == 1
        assert "has results of other settings" in called.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--anchors", 2001), "--anchors is 2001; it must be in [0, 2000]"),
        (("--outliers", 1.5), "--outliers is 1.5; it must be in [0, 1]"),
        (("--outliers", "nan"), "--outliers is nan"),
        (("--anchor-pattern", "stars"), "invalid choice: 'stars'"),
    ],
)
def test_anchors_out_of_range_are_refused(rooms, tmp_path, redepth_tiny, options, message):
    called = redepth_tiny("evaluate", rooms, "--out", tmp_path / "out", *options)
    assert called.status != 0
    assert message in called.err
    assert not (tmp_path / "out").exists()


def test_few_anchors_and_few_outliers(rooms, tmp_path, redepth_tiny, quick_figures):
    options = ("--out", tmp_path, *FAST, "--anchors", 10, "--outliers", 0, "--limit", 1)
    assert redepth_tiny("evaluate", rooms, *options).status == 0
    summary = read_summary(tmp_path)["summary"]
    assert summary["interpolated"]["abs_rel"]["images"] == summary["fused"]["abs_rel"]["images"] == 1


def test_sizes_that_differ_are_named(rooms, tmp_path, redepth_tiny):
    folder = shutil.copytree(rooms, tmp_path / "pairs")
    write_png(folder / "0_depth.png", np.full((60, 80), 3000, np.uint16))
    called = redepth_tiny("evaluate", folder, "--out", tmp_path / "out", *FAST, "--limit", 1)
    assert called.status == 1
    assert "the image has 160x120 pixels, its depth 80x60; they must be equal" in called.out
    assert "none of the 1 images can be evaluated" in called.err


def test_anchors_are_the_prompt_of_a_network_that_takes_one(tmp_path, engine, quick_figures, monkeypatch):
    """So the scale fitted to them is that of the depth with this prompt."""
    model = load_depth_network(save_prompt_network(tmp_path / "model"), device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (42, 56, 3), np.uint8)
    truth = np.linspace(4.0, 2.0, 42, dtype=np.float32)[:, None].repeat(56, 1)
    fitted = []

    def fit(output, metric, anchors):
        fitted.append((output, metric, anchors))
        return fit_anchors(output, metric, anchors)

    monkeypatch.setattr(evaluate_task, "fit_anchors", fit)
    task = EvaluateTask(
        Sample("floor", image, truth, None, True, False),
        RefineSettings(steps=1, ensemble_size=1, lights_per_step=1),
        AnchorSettings(count=100),
    )
    evaluation = task.run(Engine(model, engine.prior), lambda step: True)
    ((output, metric, anchors),) = fitted
    assert metric
    np.testing.assert_allclose(output, model.with_prompt(anchors).predict(image))
    assert evaluation.result["refused"] == {}
    assert {"fast", "fast + anchors", "anchored", "fused"} <= set(evaluation.result["errors"])
