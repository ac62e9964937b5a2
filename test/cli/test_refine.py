"""`redepth refine`."""

import json
import os
import signal
from itertools import count

import cv2
import numpy as np
import pytest
from prompt_networks import save_prompt_network

from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.run import Run
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.depth_networks import load_depth_network


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "relief.png"
    relief = next(load_rendered_images()).image[:80, :100]
    cv2.imwrite(str(path), relief[:, :, ::-1])
    return path


@pytest.fixture
def quick_figures(monkeypatch):
    """Leaves out the figures, whose drawing takes longer than the rest."""
    for name in ("plot_refinement", "plot_losses"):
        monkeypatch.setattr(f"redepth_ros.cli.refine_task.{name}", lambda *arguments, **options: None)


def test_every_result_is_written(image, tmp_path, redepth_tiny):
    extra = ("--prompt", "a relief", "--focal", 90, "--device", "cpu")
    called = redepth_tiny(
        "refine", image, "--out", tmp_path, "--steps", 3, "--ensemble-size", 2, "--seed", 7, *extra
    )
    assert called.status == 0, called.err
    assert "relief: refined: the depth changed by" in called.out
    assert "tiny is an embedded network" in called.out
    folder = tmp_path / "relief"
    assert sorted(path.name for path in folder.iterdir()) == [
        "color.png",
        "depth.png",
        "losses.png",
        "maps.npz",
        "normals.png",
        "report.json",
        "sheet.png",
    ]
    report = json.loads((folder / "report.json").read_text())
    assert report["outcome"] == "REFINED"
    assert (report["settings"]["seed"], report["settings"]["ensemble_size"]) == (7, 2)
    assert report["settings"]["steps"] == report["steps"] == report["plan"]["steps"] == 3
    assert report["size"] == [100, 80]
    assert (report["prompt"], report["device"], report["dtype"]) == ("a relief", "cpu", "torch.float32")
    assert report["camera"]["fx"] == 90.0
    assert {"redepth_ros", "torch", "transformers", "diffusers"} <= set(report["versions"])
    assert len(report["model_hash"]) == len(report["prior_hash"]) == 16
    assert report["model_hash"] != report["prior_hash"]
    assert len(report["losses"]) == 3
    assert report["input_size"] == 240
    with np.load(folder / "maps.npz") as maps:
        shapes = {name: maps[name].shape for name in maps}
        depth = maps["depth"]
        assert np.isfinite(depth).all()
        assert maps["stddev"].max() > 0
        np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=0), 1.0, atol=1e-4)
    assert shapes == {
        "depth": (80, 100),
        "fast_depth": (80, 100),
        "stddev": (80, 100),
        "normals": (3, 80, 100),
        "fast_normals": (3, 80, 100),
    }
    stored = cv2.imread(str(folder / "depth.png"), cv2.IMREAD_UNCHANGED)
    assert stored.dtype == np.uint16
    np.testing.assert_allclose(stored / 1000.0, depth, atol=6e-4)
    for name in ("normals.png", "color.png"):
        assert cv2.imread(str(folder / name)).shape == (80, 100, 3)


def test_results_of_images_with_one_name_have_numbers(image, tmp_path, redepth_tiny, quick_figures):
    twin = tmp_path / "other" / "relief.png"
    twin.parent.mkdir()
    twin.write_bytes(image.read_bytes())
    called = redepth_tiny(
        "refine", image, twin, "--out", tmp_path / "out", "--steps", 1, "--ensemble-size", 1
    )
    assert called.status == 0, called.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"relief", "relief-2"}


def test_an_invalid_image_is_skipped(image, tmp_path, redepth_tiny, quick_figures):
    called = redepth_tiny("refine", __file__, image, "--out", tmp_path, "--steps", 1, "--ensemble-size", 1)
    assert called.status == 1
    assert "test_refine is skipped" in called.err
    assert "not an image that Pillow or OpenCV can read" in called.err
    assert (tmp_path / "relief" / "report.json").is_file()


def test_a_second_call_does_not_repeat_and_refuses_other_settings(
    image, tmp_path, redepth_tiny, quick_figures, monkeypatch
):
    command = ("refine", image.parent, "--out", tmp_path / "o", "--ensemble-size", 1, "--steps")
    assert redepth_tiny(*command, 1).status == 0
    assert "relief: done before" in redepth_tiny(*command, 1).out
    called = redepth_tiny(*command, 2)
    assert called.status == 1
    assert "results of other settings (settings)" in called.err
    assert redepth_tiny(*command, 2, "--overwrite").status == 0
    assert json.loads((tmp_path / "o" / "relief" / "report.json").read_text())["steps"] == 2


def test_a_folder_of_other_files_is_not_written_into(image, tmp_path, redepth_tiny, quick_figures):
    mine = tmp_path / "o" / "relief" / "depth.png"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    command = ("refine", image, "--out", tmp_path / "o", "--ensemble-size", 1, "--steps", 1)
    called = redepth_tiny(*command)
    assert called.status == 1
    assert "has files, but no report of redepth refine; remove them" in called.err
    assert mine.read_text() == "mine"
    assert redepth_tiny(*command, "--overwrite").status == 0
    assert cv2.imread(str(mine), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_results_of_other_weights_are_refused(image, tmp_path, redepth_tiny, engine, quick_figures):
    command = ("refine", image, "--out", tmp_path / "o", "--ensemble-size", 1, "--steps", 1)
    assert redepth_tiny(*command).status == 0
    weight = next(engine.prior.unet.parameters())
    former = weight.clone()
    try:
        weight.mul_(1.01)
        called = redepth_tiny(*command)
    finally:
        weight.copy_(former)
    assert called.status == 1
    assert "results of other settings (prior_hash)" in called.err


def test_what_is_missing_is_named_before_the_work(image, tmp_path, redepth_tiny):
    called = redepth_tiny("refine", image, "/none.png", "--out", tmp_path)
    assert called.status == 1
    assert "there is no '/none.png'" in called.err


@pytest.mark.parametrize("out", ["file", "file/folder"])
def test_a_folder_that_can_not_be_made_is_named_before_the_work(
    out, image, tmp_path, redepth_tiny, monkeypatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(Run, "steps", lambda run: pytest.fail("the work began"))
    called = redepth_tiny("refine", image, "--out", tmp_path / out)
    assert called.status == 1
    assert f"'{tmp_path / out}' can't be written" in called.err


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_a_file_in_place_of_an_images_folder_skips_that_image_only(
    options, image, tmp_path, redepth_tiny, quick_figures
):
    other = tmp_path / "other.png"
    other.write_bytes(image.read_bytes())
    out = tmp_path / "o"
    out.mkdir()
    (out / "relief").write_text("")
    command = ("refine", image, other, "--out", out, "--ensemble-size", 1, "--steps", 1, *options)
    called = redepth_tiny(*command)
    assert called.status == 1
    assert f"relief is skipped: '{out / 'relief'}' is a file" in called.err
    assert (out / "other" / "report.json").is_file()


@pytest.mark.parametrize("blocked", ["maps.npz", "report.json"])
def test_results_of_one_image_that_can_not_be_written_do_not_end_the_others(
    blocked, image, tmp_path, redepth_tiny, quick_figures
):
    """As on a full disk."""
    other = tmp_path / "other.png"
    other.write_bytes(image.read_bytes())
    out = tmp_path / "o"
    (out / "relief" / blocked).mkdir(parents=True)
    command = ("refine", image, other, "--out", out, "--ensemble-size", 1, "--steps", 1, "--overwrite")
    called = redepth_tiny(*command)
    assert called.status == 1
    assert "relief is skipped: " in called.err
    assert "can't be written: " in called.err
    assert (out / "other" / "report.json").is_file()


def test_anchors_give_metres(tmp_path, redepth_tiny, quick_figures):
    room = next(one for one in load_rendered_images() if one.kind == "room")
    for folder in ("in", "depth"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "in" / "room $1.png"), room.image[..., ::-1])
    cv2.imwrite(str(tmp_path / "depth" / "room $1.png"), (1000 * room.depth).astype(np.uint16))
    command = ("refine", tmp_path / "in", "--out", tmp_path / "o", "--ensemble-size", 1, "--steps", 1)
    called = redepth_tiny(*command, "--anchors", tmp_path / "depth", "--intrinsics", "256,256,159.5,119.5")
    assert called.status == 0, called.err
    report = json.loads((tmp_path / "o" / "room $1" / "report.json").read_text())
    assert report["depth_unit"] == "m"
    assert report["anchors"] > 100
    assert report["camera"]["fx"] == 256.0
    assert len(report["model_hash"]) == 16
    with np.load(tmp_path / "o" / "room $1" / "maps.npz") as maps:
        assert np.nanmedian(np.abs(maps["depth"] / room.depth - 1.0)) < 0.3


def test_the_calibration_gives_metres_to_a_network_that_needs_it(
    image, tmp_path, redepth_tiny, engine, quick_figures, monkeypatch
):
    monkeypatch.setattr(engine.model, "known_scale", lambda _, camera: Scale(0.3) if camera else None)
    command = ("refine", image, "--ensemble-size", 1, "--steps", 1)
    assert redepth_tiny(*command, "--out", tmp_path / "relative").status == 0
    assert redepth_tiny(*command, "--out", tmp_path / "metres", "--intrinsics", "90,90,47,35").status == 0
    relative, metres = (
        json.loads((tmp_path / name / image.stem / "report.json").read_text())
        for name in ("relative", "metres")
    )
    assert (relative["depth_unit"], relative["scale"]) == ("half image heights, scale unknown", None)
    assert (metres["depth_unit"], metres["scale"]["scale"]) == ("m", 0.3)
    with np.load(tmp_path / "metres" / image.stem / "maps.npz") as maps:
        fast = engine.model.predict(cv2.imread(str(image))[..., ::-1]).numpy()
        np.testing.assert_allclose(np.median(maps["fast_depth"]), np.median(0.3 / fast), rtol=0.02)


def test_anchors_that_are_no_prompt_are_reported(
    image, tmp_path, redepth_tiny, engine, quick_figures, monkeypatch
):
    model = load_depth_network(save_prompt_network(tmp_path / "model"), device="cpu")
    monkeypatch.setattr(engine, "model", model)
    (tmp_path / "depth").mkdir()
    units = {}
    for name, depth in (("flat", np.full(8000, 2000)), ("slant", np.linspace(1e3, 3e3, 8000))):
        cv2.imwrite(str(tmp_path / "depth" / image.name), depth.reshape(80, 100).astype(np.uint16))
        command = ("refine", image, "--ensemble-size", 1, "--steps", 1, "--out", tmp_path / name)
        called = redepth_tiny(*command, "--anchors", tmp_path / "depth")
        assert called.status == 0, called.err
        unused = "anchors are not used: all of the anchors' depth is 2 m" in called.out + called.err
        assert unused == (name == "flat")
        report = json.loads((tmp_path / name / image.stem / "report.json").read_text())
        units[name] = report["depth_unit"]
    assert units == {"flat": "half image heights, scale unknown", "slant": "m"}
    with np.load(tmp_path / "slant" / image.stem / "maps.npz") as maps:
        assert 1.0 < np.median(maps["depth"]) < 3.0


def test_a_name_with_a_dollar_is_drawn(image, tmp_path, redepth_tiny):
    path = tmp_path / "a $x_y #1.png"
    path.write_bytes(image.read_bytes())
    called = redepth_tiny("refine", path, "--out", tmp_path / "o", "--ensemble-size", 1, "--steps", 1)
    assert called.status == 0, called.err
    assert (tmp_path / "o" / "a $x_y #1" / "sheet.png").is_file()


def test_ctrl_c_writes_the_best_result_so_far(image, tmp_path, redepth_tiny, quick_figures, monkeypatch):
    original = Run.steps

    def steps(run):
        for number, step in zip(count(), original(run), strict=False):
            yield step
            if number == 2:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "steps", steps)
    former = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        called = redepth_tiny(
            "refine", image, image, "--out", tmp_path, "--steps", 100000, "--ensemble-size", 1
        )
    finally:
        signal.signal(signal.SIGINT, former)
    assert called.status == 130
    report = json.loads((tmp_path / "relief" / "report.json").read_text())
    assert report["outcome"] == "STOPPED_EARLY"
    assert not (tmp_path / "relief-2").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "0"], "--steps is 0; it must be from 1"),
        (["--model", "/none"], "model '/none' is not a folder"),
        (["--prior", "/none"], "prior '/none' is not a folder"),
        (["--device", "cuda:9"], "device is 'cuda:9'"),
        (["--focal", "-3"], "--focal is -3.0; it must be at least 0 pixels"),
    ],
)
def test_invalid_options_are_named(arguments, message, image, tmp_path, redepth):
    called = redepth("refine", image, *arguments, "--out", tmp_path)
    assert called.status == 1
    assert message in called.err
