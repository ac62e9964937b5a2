"""bench/soak.py for a few seconds; CONTRIBUTING names the longer call."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy")

import rclpy
import rclpy.task
from fakes import FakeActionServer, Graph
from redepth_interfaces.action import RefineDepth
from ros_domains import claim_domain

from bench.soaking.graph import DISCOVERY_TIME, Monitor

ROOT = Path(__file__).parents[2]


def test_a_graph_under_faults_keeps_the_rules_of_the_soak(tmp_path):
    report = tmp_path / "soak.json"
    command = [sys.executable, "bench/soak.py", "--minutes", "0.08", "--seed", "1117", "--json", str(report)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    environment["ROS_DOMAIN_ID"] = str(claim_domain())  # it must not meet the nodes of the other tests
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    assert report.exists(), done.stdout + done.stderr
    found = json.loads(report.read_text())
    broken = {rule["name"]: rule["measured"] for rule in found["rules"] if not rule["kept"]}
    assert done.returncode == bool(broken)
    broken.pop("silence of the fast depth (s)", None)  # a time, which depends on the machine
    assert not broken, done.stdout
    assert {"goals_in_bursts", "parameters_changed"} <= set(found["faults"])
    assert found["depths"] > 0
    assert sum(found["goals"].values()) >= 3
    lost = {"lost: server killed", "lost: no response"}
    assert set(found["goals"]) <= {"succeeded", "aborted", "cancelled", "rejected", *lost}


@pytest.fixture
def monitored(ros):
    """A monitor and a server."""
    node = rclpy.create_node("server")
    graph, server, monitor = Graph(node), FakeActionServer(node), Monitor()
    assert graph.until(monitor._refine.server_is_ready)
    yield graph, server, monitor
    monitor.close()
    server.destroy()
    graph.close()


def test_the_monitor_knows_the_state_of_a_goal_whose_responses_were_lost(monitored, monkeypatch):
    graph, server, monitor = monitored
    monkeypatch.setattr(monitor, "_on_response", lambda *response: None)
    record = monitor.send_goal(RefineDepth.Goal())
    assert graph.until(lambda: record.state == "accepted" and server.goals)
    server.end()
    assert graph.until(lambda: record.state == "succeeded")


def test_the_monitor_gives_up_only_goals_that_were_sent_while_the_server_changed(monitored, monkeypatch):
    _, _, monitor = monitored
    monkeypatch.setattr(monitor._refine, "send_goal_async", lambda goal, **options: rclpy.task.Future())
    during, later = monitor.send_goal(RefineDepth.Goal()), monitor.send_goal(RefineDepth.Goal())
    change = during.sent_at + 1.0
    monitor.give_up_lost_goals([change])
    assert (during.state, later.state) == ("sent", "sent")  # a response may still come
    during.sent_at -= DISCOVERY_TIME + 2.0
    later.sent_at -= 3.0 * DISCOVERY_TIME
    monitor.give_up_lost_goals([during.sent_at + 1.0])
    assert (during.state, later.state) == ("lost: no response", "sent")
