"""`redepth request`, on nodes in one process."""

import signal
import subprocess
import sys
import time

import pytest
from conftest import Probe

NAMESPACE = "/request"
COMMAND = [sys.executable, "-m", "redepth_ros.cli.main", "request", "--namespace", NAMESPACE]


@pytest.fixture(scope="module")
def together(start, ros):
    """Both nodes in one process, fed with one image."""
    start(
        "together",
        {"model": "tiny", "prior": "tiny", "members": 1, "threads": 1, "keyframes": "none"},
        NAMESPACE,
    )
    probe = Probe(f"{NAMESPACE}/redepth_node", namespace=NAMESPACE)
    probe.wait_until_served()
    probe.target = f"{NAMESPACE}/refine_server"
    assert probe.until(lambda: probe.state_is("active"), 60)
    yield probe
    probe.executor_.shutdown()
    probe.destroy_node()


def test_the_newest_frame_is_refined(together):
    done = subprocess.run([*COMMAND, "--steps", "3"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "refined: the depth moved by" in done.stdout
    assert f"{NAMESPACE}/refined/depth" in done.stdout


def test_ctrl_c_cancels_with_the_best_so_far(together):
    child = subprocess.Popen([*COMMAND, "--steps", "100000"], stdout=subprocess.PIPE, text=True)
    time.sleep(12)
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "cancelled" in said
    assert "stopped after" in said


def test_without_a_server_it_says_so():
    command = [*COMMAND[:-1], "/nobody", "--patience", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no action server /nobody/refine within 1 s: start refine_server" in done.stderr


def test_a_goal_that_fails_is_a_failure_of_the_command(together):
    done = subprocess.run([*COMMAND, "--members", "5000"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "members is 5000" in done.stdout
