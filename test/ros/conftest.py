"""Fixtures of the real graph: processes are started once and shared by the modules of this folder."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from graph import DEPTH, SERVER, Probe, Process
from ros_domains import use_own_domain

use_own_domain()


@pytest.fixture(scope="package")
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture(scope="package")
def start(tmp_path_factory):
    """Start processes, and end those that are left over."""
    started = []

    def start_process(module, parameters, namespace="", env=None):
        log = tmp_path_factory.mktemp(module) / "log"
        started.append(Process(module, log, parameters, namespace, env))
        return started[-1]

    yield start_process
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()


@pytest.fixture(scope="package")
def nodes(start, ros):
    """redepth_node and refine_server in processes of their own, both with `tiny`."""
    return {"redepth_node": start("redepth_node", DEPTH), "refine_server": start("refine_server", SERVER)}


@pytest.fixture(scope="package")
def composed(start, ros):
    """Both nodes in one process, with anchors of a depth camera, in the namespace /robot."""
    return start("composed", {**DEPTH, **SERVER, "anchors": "depth", "scale_timeout": 1.0}, "/robot")


@pytest.fixture(scope="package")
def make_probe(ros):
    """Make probes, and destroy them at the end."""
    probes = []

    def make(*arguments, **options):
        probes.append(Probe(*arguments, **options))
        return probes[-1]

    yield make
    for probe in probes:
        probe.close()


@pytest.fixture(scope="package")
def shared_probe(nodes, make_probe):
    probe = make_probe()
    probe.wait_until_active(nodes["redepth_node"])
    probe.sent_until("depth/image")
    return probe


@pytest.fixture
def probe(shared_probe):
    """A probe whose images reach redepth_node."""
    shared_probe.forget()
    return shared_probe


@pytest.fixture(scope="package")
def shared_client(nodes, make_probe):
    client = make_probe(target="refine_server", name="client")
    client.wait_until_active(nodes["refine_server"])
    return client


@pytest.fixture
def client(shared_client):
    """A probe of refine_server, which is active."""
    shared_client.forget()
    return shared_client


@pytest.fixture(scope="package")
def robot(composed, make_probe):
    """A probe in the namespace of the composed nodes, once both are active."""
    robot = make_probe("/robot", name="robot")
    for target in ("refine_server", "redepth_node"):
        robot.target = target
        robot.wait_until_active(composed)
    return robot
