"""`redepth request`, on nodes in one process."""

import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import Probe

NAMESPACE = "/request"
COMMAND = [sys.executable, "-m", "redepth_ros.cli.main", "request", "--namespace", NAMESPACE]
COMMAND += ["--patience", "60"]  # as long as a busy machine may take to find the server


def call(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300)


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
    assert probe.until(lambda: probe.state_is("active"))
    yield probe
    probe.executor_.shutdown()
    probe.destroy_node()


def test_the_newest_frame_is_refined(together):
    done = call("--steps", "3")
    assert done.returncode == 0, done.stderr
    assert "refined: the depth moved by" in done.stdout
    assert f"{NAMESPACE}/refined/depth" in done.stdout


def test_ctrl_c_cancels_with_the_best_so_far(together, tmp_path):
    log = tmp_path / "log"
    # For rich this makes a file a terminal, whose progress is shown as it comes.
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "200"}
    command = [*COMMAND, "--steps", "100000"]
    with log.open("w") as stream, subprocess.Popen(command, stdout=stream, env=environment) as child:
        try:
            # The second that is shown: by then the answer to the goal itself has been read.
            steps = re.compile(r"step \d+/")
            assert together.until(lambda: len(set(steps.findall(log.read_text()))) >= 2, 300)
            child.send_signal(signal.SIGINT)
            child.wait(300)
        finally:
            child.kill()
    said = log.read_text()
    assert child.returncode == 0, said
    assert "cancelled" in said
    assert "stopped after" in said


def test_without_a_server_it_says_so():
    done = call("--namespace", "/nobody", "--patience", "1")
    assert done.returncode == 1
    assert "no action server /nobody/refine within 1 s: start refine_server" in done.stderr


def test_a_goal_that_fails_is_a_failure_of_the_command(together):
    done = call("--members", "5000")
    assert done.returncode == 1
    assert "members is 5000" in done.stdout
