"""`redepth evaluate`, and the data sets that it reads."""

import base64
import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from redepth_ros.cli.datasets import read_pairs
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.metrics import bootstrap_mean, boundary_f1, normal_error
from training.scenes.render import render
from training.scenes.textures import atlas
from training.scenes.worlds import draw_scene

COMMAND = [sys.executable, "-m", "redepth_ros.cli.main", "evaluate"]
IMAGE = np.full((12, 16, 3), 90, np.uint8)
DEPTH = np.linspace(1.0, 4.0, 192, dtype=np.float32).reshape(12, 16)


def write_png(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def millimetres(depth):
    return (depth * 1000.0).round().astype(np.uint16)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """Three rendered rooms that the embedded network gets about right, with an index.csv."""
    folder, textures = tmp_path_factory.mktemp("pairs"), atlas(1)
    with (folder / "index.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        head = ["name", "rgb", "depth", "kind", "png_scale", "width", "height", "fx", "fy", "cx", "cy"]
        writer.writerow(head)
        for number, seed in enumerate((96_000_001, 96_000_002, 96_000_005)):
            scene = render(draw_scene(seed, len(textures[0]), 160, 120), textures)
            image = (scene.image.permute(1, 2, 0).numpy() * 255.0).round().astype(np.uint8)
            write_png(folder / f"{number}.png", image[:, :, ::-1])
            write_png(folder / f"{number}_depth.png", millimetres(scene.depth.numpy()))
            camera = (130, 130, 79.5, 59.5) if number else ("",) * 4
            writer.writerow(
                [f"room {number}", f"{number}.png", f"{number}_depth.png", "depth", 1000, 160, 120, *camera]
            )
    return folder


def call(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300)


def test_everything_is_written_and_nothing_done_twice(indexed, tmp_path):
    options = ("--out", tmp_path / "out", "--steps", 3, "--members", 1, "--anchors", 60)
    done = call(indexed, *options, "--limit", 2)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "out" / "results.jsonl").read_text()
    assert len(first.splitlines()) == 2
    (tmp_path / "out" / "results.jsonl").write_text(first + '{"name": "room 2", "err')  # power went
    done = call(indexed, *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.jsonl").read_text().startswith(first)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["pictures"] == 3
    methods = ["fast", "refined", "fast + anchors", "anchored"]
    assert list(summary["summary"]) == methods
    for measures in summary["summary"].values():
        mean, low, high = measures["abs_rel"]
        assert 0 < low <= mean <= high < 1
    with (tmp_path / "out" / "results.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["picture"], row["method"]) for row in rows[:4]] == [("room 0", name) for name in methods]
    assert rows[0]["normal_angle"] == ""  # without a calibration
    assert float(rows[4]["normal_angle"]) > 0
    report = (tmp_path / "out" / "report.html").read_text()
    for number in range(3):
        sheet = tmp_path / "out" / "sheets" / f"room_{number}.png"
        assert cv2.imread(str(sheet)) is not None
        assert base64.b64encode(sheet.read_bytes()).decode() in report  # one file to hand on


def test_a_damaged_file_is_left_out_until_it_is_whole(indexed, tmp_path):
    folder = shutil.copytree(indexed, tmp_path / "pairs")
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(b"what a broken download left")
    options = ("--out", tmp_path / "out", "--steps", 1, "--members", 1, "--anchors", 0)
    done = call(folder, *options)
    assert done.returncode == 0, done.stderr
    assert "room 1 is left out" in done.stdout
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pictures"] == 2
    (folder / "1.png").write_bytes(whole)
    assert call(folder, *options).returncode == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pictures"] == 3


def test_a_picture_whose_anchors_say_nothing_is_named_and_others_count(indexed, tmp_path):
    folder = shutil.copytree(indexed, tmp_path / "pairs")
    write_png(folder / "1_depth.png", np.full((120, 160), 3000, np.uint16))
    done = call(folder, "--out", tmp_path / "out", "--steps", 1, "--members", 1, "--anchors", 60)
    assert done.returncode == 0, done.stderr
    assert "room 1 counts without anchors: the anchors lie all at one depth" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["pictures"] == 2
    with (tmp_path / "out" / "results.csv").open(newline="") as stream:
        methods = [row["method"] for row in csv.DictReader(stream) if row["picture"] == "room 1"]
    assert methods == ["fast", "refined"]


def test_pictures_of_the_same_name_elsewhere_are_others(indexed, tmp_path):
    folder = shutil.copytree(indexed, tmp_path / "pairs")
    write_png(folder / "0_depth.png", np.full((120, 160), 3000, np.uint16))
    options = ("--out", tmp_path / "out", "--steps", 1, "--members", 1, "--anchors", 0, "--limit", 1)
    found = []
    for place in (folder, indexed):
        assert call(place, *options).returncode == 0
        summary = json.loads((tmp_path / "out" / "summary.json").read_text())["summary"]
        found.append(summary["fast"]["abs_rel"])
    assert found[0] != found[1]


def test_edges_are_judged_by_sharp_depth_only(indexed, tmp_path):
    head, *lines = (indexed / "index.csv").read_text().splitlines()
    folder = shutil.copytree(indexed, tmp_path / "pairs")
    kinds = ("rendered, exact", "Kinect v1, raw (holes)", "LiDAR")
    lines = [f'{line},"{kind}"' for line, kind in zip(lines, kinds, strict=True)]
    (folder / "index.csv").write_text("\n".join([f"{head},ground_truth", *lines]) + "\n")
    assert [pair.sharp for pair in read_pairs(folder)] == [True, False, False]
    assert all(pair.sharp for pair in read_pairs(indexed))


def test_results_of_other_settings_are_not_mixed(indexed, tmp_path):
    options = ("--out", tmp_path, "--members", 1, "--anchors", 0, "--limit", 1)
    assert call(indexed, *options, "--steps", 1).returncode == 0
    done = call(indexed, *options, "--steps", 2)
    assert done.returncode == 1
    assert "has the results of other settings" in done.stderr


def test_kitti(tmp_path):
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02.png"
    write_png(tmp_path / "image" / name.format("image"), IMAGE)
    write_png(
        tmp_path / "groundtruth_depth" / name.format("groundtruth_depth"), (DEPTH * 256).astype(np.uint16)
    )
    (tmp_path / "intrinsics").mkdir()
    (tmp_path / "intrinsics" / f"{name.format('image')[:-4]}.txt").write_text("70 0 8 0 71 6 0 0 1")
    (pair,) = read_pairs(tmp_path)
    np.testing.assert_allclose(pair.depth(), DEPTH, atol=1 / 256)
    assert pair.intrinsics == Intrinsics(70.0, 71.0, 8.0, 6.0, 16, 12)
    assert pair.image().shape == (12, 16, 3)


def test_diode(tmp_path):
    write_png(tmp_path / "indoors" / "00019.png", IMAGE)
    mask = np.ones((12, 16))
    mask[0, 0] = 0
    np.save(tmp_path / "indoors" / "00019_depth.npy", DEPTH[..., None])
    np.save(tmp_path / "indoors" / "00019_depth_mask.npy", mask)
    (pair,) = read_pairs(tmp_path)
    found = pair.depth()
    assert np.isnan(found[0, 0])
    np.testing.assert_array_equal(found[1:], DEPTH[1:])


def test_diode_files_that_are_damaged(tmp_path):
    write_png(tmp_path / "a.png", IMAGE)
    (tmp_path / "a_depth.npy").write_bytes(b"what a broken download left")
    np.save(tmp_path / "a_depth_mask.npy", np.ones((12, 16), np.float32))
    with pytest.raises(ImageError, match=r"a_depth.npy' or its mask can't be read.*; download it again"):
        read_pairs(tmp_path)[0].depth()


def test_eth3d(tmp_path):
    write_png(tmp_path / "pipes" / "images" / "dslr_images" / "DSC_1.png", IMAGE)
    stored = tmp_path / "pipes" / "ground_truth_depth" / "dslr_images" / "DSC_1.png"
    stored.parent.mkdir(parents=True)
    measured = DEPTH.copy()
    measured[3, 3] = np.inf
    measured.tofile(stored)
    (pair,) = read_pairs(tmp_path)
    assert pair.name == "pipes_DSC_1"
    assert np.isnan(pair.depth()[3, 3])
    measured[:5].tofile(stored)
    with pytest.raises(ImageError, match="holds 80 values, its picture 16x12"):
        pair.depth()


def test_nyu_folder(tmp_path):
    write_png(tmp_path / "bathroom" / "rgb_00045.png", IMAGE)
    write_png(tmp_path / "bathroom" / "sync_depth_00045.png", millimetres(DEPTH))
    (pair,) = read_pairs(tmp_path)
    assert pair.name == "bathroom_00045"
    np.testing.assert_allclose(pair.depth(), DEPTH, atol=6e-4)


def test_nyu_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as stored:
        stored["images"] = IMAGE.transpose(2, 1, 0)[None]
        stored["rawDepths"] = np.where(DEPTH > 3.5, 0.0, DEPTH).T[None]
    (pair,) = read_pairs(tmp_path)
    np.testing.assert_array_equal(pair.image(), IMAGE)
    np.testing.assert_array_equal(pair.depth(), np.where(DEPTH > 3.5, np.nan, DEPTH))


def test_folders_that_hold_nothing_known(tmp_path):
    with pytest.raises(ConfigError, match="there is no"):
        read_pairs(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="holds no pairs of picture and depth"):
        read_pairs(tmp_path)
    (tmp_path / "index.csv").write_text("name,rgb\nx,y.png\n")
    with pytest.raises(ConfigError, match="the line of 'x' can't be used"):
        read_pairs(tmp_path)


def test_edges_in_their_places():
    truth = np.ones((10, 10))
    truth[:, 5:] = 2.0
    beside = np.ones((10, 10))
    beside[:, 6:] = 2.0
    assert boundary_f1(3.0 * truth, truth) == 1.0
    assert boundary_f1(beside, truth) == 0.0
    assert boundary_f1(np.ones((10, 10)), truth) == 0.0
    assert np.isnan(boundary_f1(truth, np.ones((10, 10))))


def test_the_angle_between_normals():
    camera = Intrinsics(50.0, 50.0, 4.5, 4.5, 10, 10)
    flat = np.full((10, 10), 2.0)
    u = np.arange(10)
    tilted = 2.0 / (1.0 - np.tan(np.radians(20.0)) * (u - 4.5) / 50.0) * np.ones((10, 1))
    assert normal_error(flat, flat, camera) == pytest.approx(0.0, abs=0.05)
    assert normal_error(flat, tilted, camera) == pytest.approx(20.0, abs=0.2)


def test_a_bootstrap_interval_is_about_two_standard_errors():
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    mean, low, high = bootstrap_mean(np.append(values, np.nan))
    assert mean == pytest.approx(values.mean())
    assert (high - low) / 2 == pytest.approx(1.96 / 20, rel=0.1)
