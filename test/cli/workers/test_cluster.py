"""Workers on a Ray cluster; a local one of two workers where ray is installed."""

import os
import socket
import sys

import numpy as np
import pytest

from cli.workers.tasks import Echo, Killed
from redepth_ros.cli.process.refinement import RefineJob
from redepth_ros.cli.workers.cluster import RayTeam, share_cluster
from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.pool import SerialPool, WorkerPool
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.nodes.settings import DepthSettings

TINY = EngineOptions("tiny", "tiny", device="cpu")


@pytest.mark.parametrize(
    ("nodes", "size", "device", "expected"),
    [
        ([{"CPU": 2}], 2, "auto", (2, 1, 0.0)),
        ([{"CPU": 16}, {"CPU": 4}, {}], 0, "cpu", (2, 8, 0.0)),
        ([{"CPU": 8}, {"CPU": 2}], 2, "auto", (2, 4, 0.0)),
        ([{"CPU": 4}, {"CPU": 4}], 3, "auto", (3, 2, 0.0)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 8}], 0, "auto", (2, 8, 1.0)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 4, "GPU": 1}], 4, "cuda", (4, 2, 0.5)),
        ([{"CPU": 16, "GPU": 2}], 4, "cpu", (4, 4, 0.0)),
        ([{"CPU": 1, "GPU": 4}], 0, "auto", (4, 1, 1.0)),
    ],
)
def test_a_cluster_is_shared_so_that_all_workers_fit(nodes, size, device, expected):
    assert share_cluster(nodes, size, device) == expected


@pytest.mark.parametrize(
    ("nodes", "size", "device", "message"),
    [
        ([{"CPU": 2}, {"CPU": 1}], 4, "auto", "--workers is 4; the Ray cluster has 3 CPU cores"),
        ([{"CPU": 2}], 0, "cuda", "--device is 'cuda', but the Ray cluster has no GPU"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(nodes, size, device, message):
    with pytest.raises(ConfigError, match=message):
        share_cluster(nodes, size, device)


def test_without_ray_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="--ray needs Ray: pip install ray"):
        RayTeam(TINY, 2, "")


def load_ray():
    """Ray is not among the requirements: 200 MB for one option."""
    return pytest.importorskip("ray", reason="ray is not installed; to run this test: pip install ray")


def test_an_address_without_a_cluster_is_named_soon():
    load_ray()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConfigError, match=f"--ray is '{address}': no Ray cluster answers there"):
        RayTeam(TINY, 2, address)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions("tiny", "tiny", device="cuda:1"), "--device is 'cuda:1'; with --ray it must be"),
        (EngineOptions("net", "tiny"), "--model is 'net'; with --ray it must be an absolute path"),
    ],
)
def test_options_of_one_machine_are_refused(options, message, tmp_path, monkeypatch):
    load_ray()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net").mkdir()
    with pytest.raises(ConfigError, match=message):
        RayTeam(options, 2, "")


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of this process, with two cores."""
    ray = load_ray()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # the tasks of the tests
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_a_killed_worker_is_replaced_and_the_results_are_those_of_one_process(cluster, engine, tmp_path):
    room = next(one for one in load_rendered_images() if one.kind == "room").image
    settings = RefineSettings(steps=2, ensemble_size=1, lights_per_step=1)
    jobs = [
        RefineJob(
            n, np.roll(room, n, axis=1), None, None, None, settings, DepthSettings().limits, 0.1, "", 70
        )
        for n in range(4)
    ]
    log, hopeless = tmp_path / "once", tmp_path / "always"
    tasks = [jobs[0], Killed(jobs[1], 1, log), jobs[2], Killed(Echo(7), 9, hopeless), jobs[3]]
    with WorkerPool(RayTeam(TINY, 2, "")) as pool:
        assert pool.facts == SerialPool(engine).facts
        *results, failed, last = pool.map(tasks)
    assert cluster.is_initialized()  # it was there before the pool
    assert failed.startswith("failed 7: its worker died 2 times (ActorDiedError")
    assert len(hopeless.read_text().split()) == 2
    assert len(log.read_text().split()) == 1
    for result, alone in zip([*results, last], SerialPool(engine).map(jobs), strict=True):
        assert result.index == alone.index
        np.testing.assert_array_equal(result.depth, alone.depth)
