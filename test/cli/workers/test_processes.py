"""Workers in real processes: results, deaths, and the commands that use them."""

import json
from importlib import import_module

import cv2
import numpy as np
import pytest
import torch

from cli.workers.tasks import Killed
from redepth_ros.cli.process.refinement import RefineJob
from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.pool import SerialPool, WorkerPool
from redepth_ros.cli.workers.processes import ProcessTeam
from redepth_ros.core.errors import ModelError
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.nodes.settings import DepthSettings

TINY = EngineOptions("tiny", "tiny", device="cpu")
SHORT = ("--steps", 2, "--ensemble-size", 1, "--lights-per-step", 1, "--input-size", 70, "--seed", 3)


@pytest.fixture(scope="module")
def room():
    """A rendered room, image and depth (H, W)."""
    rendered = next(one for one in load_rendered_images() if one.kind == "room")
    return np.ascontiguousarray(rendered.image[::2, ::2]), rendered.depth[::2, ::2]


@pytest.fixture(scope="module")
def one_thread():
    """The last bits depend on the number of threads: all processes have one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pool(one_thread):
    """Two workers, started once."""
    with WorkerPool(ProcessTeam(TINY, 2)) as pool:
        yield pool


@pytest.fixture
def redepth_pools(redepth_tiny, engine, pool, monkeypatch):
    """Calls `redepth` with the two workers that are started already, or in this process."""
    monkeypatch.setattr(DepthAnything, "load", lambda name, **options: engine.model)
    monkeypatch.setattr(pool, "close", lambda: None)

    def open_pool(options, should_stop=None):
        return pool if options.workers == 2 else SerialPool(engine)

    monkeypatch.setattr("redepth_ros.cli.workers.open.open_pool", open_pool)
    # A test before may have taken the module out of its package, where the dotted name is looked for.
    monkeypatch.setattr(import_module("redepth_ros.cli.process.command"), "open_pool", open_pool)
    return redepth_tiny


@pytest.fixture
def images(tmp_path, room):
    """Three images and their depth in the layout of an index.csv."""
    lines = ["name,rgb,depth,kind,png_scale"]
    (tmp_path / "in").mkdir()
    (tmp_path / "pairs").mkdir()
    for number in range(3):
        image, depth = (np.roll(one, 9 * number, axis=1) for one in room)
        cv2.imwrite(str(tmp_path / "in" / f"{number}.png"), image[..., ::-1])
        depth_file = tmp_path / "pairs" / f"{number}.png"
        cv2.imwrite(str(depth_file), (1000 * depth).clip(0, 65535).astype(np.uint16))
        lines.append(f"{number},../in/{number}.png,{number}.png,depth,1000")
    (tmp_path / "pairs" / "index.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def make_job(image, number):
    settings = RefineSettings(steps=2, ensemble_size=1, lights_per_step=1)
    image = np.roll(image, 5 * number, axis=1)
    return RefineJob(number, image, None, None, None, settings, DepthSettings().limits, 0.1, "", 70)


def test_a_killed_worker_is_replaced_and_the_results_are_those_of_one_process(engine, room, pool, tmp_path):
    jobs = [make_job(room[0], number) for number in range(3)]
    log = tmp_path / "deaths"
    results = list(pool.map([jobs[0], Killed(jobs[1], 1, log), jobs[2]]))
    assert len(log.read_text().split()) == 1
    assert [result.index for result in results] == [0, 1, 2]
    for result, alone in zip(results, SerialPool(engine).map(jobs), strict=True):
        assert result.outcome == alone.outcome != "failed"
        np.testing.assert_array_equal(result.depth, alone.depth)
        np.testing.assert_array_equal(result.stddev, alone.stddev)


def test_networks_that_can_not_be_loaded_end_with_their_own_message():
    missing = EngineOptions("/none", "tiny", device="cpu")
    with WorkerPool(ProcessTeam(missing, 1)) as pool, pytest.raises(ModelError, match="model '/none' is not"):
        _ = pool.facts


def test_refine_writes_the_same_files(redepth_pools, images):
    for workers in (1, 2):
        out = images / f"out_{workers}"
        called = redepth_pools("refine", images / "in", "--out", out, *SHORT, "--workers", workers)
        assert called.status == 0, called.err
        assert called.out.index("0: ") < called.out.index("1: ") < called.out.index("2: ")
    compared = 0
    for path in (images / "out_1").glob("*/*"):
        other = images / "out_2" / path.parent.name / path.name
        if path.name == "report.json":
            one, two = (json.loads(file.read_text()) for file in (path, other))
            for report in (one, two):
                del report["seconds"], report["seconds_refining"]
            assert one == two
        else:
            assert path.read_bytes() == other.read_bytes(), path
        compared += 1
    assert compared == 3 * 7


def test_evaluate_finds_the_same_errors(redepth_pools, images):
    for workers in (1, 2):
        out = images / f"out_{workers}"
        called = redepth_pools(
            "evaluate", images / "pairs", "--out", out, *SHORT, "--anchors", 60, "--workers", workers
        )
        assert called.status == 0, called.err
    for name in ("results.jsonl", "summary.csv", "report.html"):
        assert (images / "out_1" / name).read_text() == (images / "out_2" / name).read_text()


def test_process_writes_the_same_files(redepth_pools, images):
    for workers in (1, 2):
        out = images / f"out_{workers}"
        called = redepth_pools(
            "process", images / "in", out, *SHORT, "--keyframes", "all", "--float32", "--workers", workers
        )
        assert called.status == 0, called.err
        assert "3 keyframes refined" in " ".join(called.out.split())
    files = [path for path in (images / "out_1" / "images").rglob("*.*") if path.is_file()]
    assert sum("refined" in str(path) for path in files) >= 3
    for path in files:
        other = images / "out_2" / path.relative_to(images / "out_1")
        assert path.read_bytes() == other.read_bytes(), path


@pytest.mark.parametrize("option", [("--workers", 2), ("--ray",)])
def test_process_without_keyframes_refuses_workers(redepth_tiny, images, option):
    called = redepth_tiny("process", images / "in", images / "out", *option)
    assert called.status == 1
    assert f"{option[0]}: workers refine keyframes, and --keyframes is none" in called.err
