"""`redepth request` with both nodes in one process, and the end of that process."""

import re
import signal
import subprocess
import sys

import pytest

pytest.importorskip("rclpy")

import rclpy
from action_msgs.msg import GoalStatus
from fakes import FakeActionServer, Graph
from graph import depth_array
from redepth_interfaces.action import RefineDepth

COMMAND = [sys.executable, "-m", "redepth_ros.cli.main", "request"]
OURS = ["--namespace", "/robot", "--timeout", "60"]  # as long as a busy machine needs for the discovery


def request(*arguments):
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=300)


@pytest.fixture
def served(robot):
    """The nodes, with a frame in the buffer."""
    robot.forget()
    robot.sent_until("depth/image")
    return robot


def test_the_newest_frame_is_refined(served):
    done = request(*OURS, "--steps", "3")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search("refined: the depth changed by|kept the fast depth", done.stdout)
    assert "/robot/refined/depth" in done.stdout


def test_a_signal_in_mid_goal_ends_the_goal_and_the_process(served, composed):
    handle = served.send_goal(served.goal(steps=100_000))
    future = handle.get_result_async()
    assert served.until(lambda: served.feedback)
    composed.signal(signal.SIGINT)
    assert served.until(future.done), "the goal does not end"
    response = future.result()
    assert response.status == GoalStatus.STATUS_ABORTED
    assert response.result.outcome == RefineDepth.Result.OUTCOME_STOPPED_EARLY
    assert depth_array(response.result.depth).size
    assert composed.wait() == 0
    assert "Traceback" not in composed.output()


def test_a_server_that_ends_in_mid_goal_is_reported(ros):
    node = rclpy.create_node("server", namespace="/leaves")
    graph, server = Graph(node), FakeActionServer(node)
    command = [*COMMAND, "--namespace", "/leaves", "--timeout", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as asking:
        try:
            assert graph.until(lambda: server.asked, 60.0)
            server.destroy()
            assert graph.until(lambda: not node.count_publishers("refine/_action/status"))
            output = asking.communicate(timeout=60)[0]
        finally:
            asking.kill()
    graph.close()
    assert asking.returncode == 1
    assert "/leaves/refine sent no result: is it still running?" in " ".join(output.split())
