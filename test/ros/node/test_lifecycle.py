"""Transitions of managed nodes, and how a process with such nodes ends."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("rclpy")

from fakes import Graph
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from redepth_ros.core.errors import ModelError
from redepth_ros.ros.node.lifecycle import ManagedNode

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class Recorder(ManagedNode):
    """A node that records its transitions; `errors` has what they raise."""

    def __init__(self):
        super().__init__("recorder")
        self.calls, self.errors = [], {}

    def _record(self, name):
        self.calls.append(name)
        if name in self.errors:
            raise self.errors[name]

    def set_up(self):
        self._record("set_up")

    def start(self):
        self._record("start")

    def stop(self):
        self._record("stop")

    def tear_down(self):
        self._record("tear_down")

    @property
    def label(self):
        return self._state_machine.current_state[1]


@pytest.fixture
def node(ros):
    made = Recorder()
    yield made
    made.destroy_node()


def test_each_transition_calls_its_method(node):
    for transition, state in (
        ("configure", "inactive"),
        ("activate", "active"),
        ("deactivate", "inactive"),
        ("cleanup", "unconfigured"),
    ):
        assert getattr(node, f"trigger_{transition}")() == SUCCESS
        assert node.label == state
    assert node.calls == ["set_up", "start", "stop", "tear_down"]
    assert node.trigger_shutdown() == SUCCESS
    assert node.label == "finalized"
    assert node.calls[4:] == ["stop", "tear_down"]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ModelError("no such folder"), "can't configure: no such folder"),
        (KeyError("weights"), "can't configure: KeyError: 'weights'"),
    ],
)
def test_a_failed_configure_has_a_reason_and_can_be_repeated(node, error, failure):
    node.errors = {"set_up": error, "tear_down": RuntimeError("half set up")}
    assert node.trigger_configure() == FAILURE
    assert (node.label, node.failure) == ("unconfigured", "can't clean up: RuntimeError: half set up")
    node.errors = {"set_up": error}
    assert node.trigger_configure() == FAILURE
    assert (node.label, node.failure) == ("unconfigured", failure)
    assert node.calls == ["set_up", "tear_down"] * 2
    node.errors = {}
    assert node.trigger_configure() == SUCCESS
    assert (node.label, node.failure) == ("inactive", "")


def test_a_failed_activate_leaves_the_node_inactive(node):
    node.errors = {"start": ModelError("no camera")}
    node.trigger_configure()
    assert node.trigger_activate() == FAILURE
    assert (node.label, node.failure) == ("inactive", "can't activate: no camera")


def test_errors_of_deactivate_and_cleanup_do_not_keep_the_node_in_its_state(node):
    node.errors = {"stop": ValueError("a"), "tear_down": ValueError("b")}
    for transition in ("configure", "activate", "deactivate", "cleanup"):
        assert getattr(node, f"trigger_{transition}")() == SUCCESS
    assert (node.label, node.failure) == ("unconfigured", "can't clean up: ValueError: b")


def test_a_transition_that_the_state_does_not_allow_is_rejected(node):
    assert node.trigger_activate() == TransitionCallbackReturn.ERROR
    assert (node.label, node.calls) == ("unconfigured", [])


def test_close_keeps_the_reason_of_a_failure(node):
    node.errors = {"set_up": ModelError("no such folder")}
    node.trigger_configure()
    node.close()
    assert node.failure == "can't configure: no such folder"
    assert node.calls[-2:] == ["stop", "tear_down"]


def test_bring_up_soon_configures_and_activates_once(node):
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    node.bring_up_soon()
    assert node.calls == []
    while node.label != "active":
        executor.spin_once(timeout_sec=1.0)
    assert (node.label, node.calls) == ("active", ["set_up", "start"])
    node.trigger_deactivate()
    node.trigger_cleanup()
    for _ in range(3):
        executor.spin_once(timeout_sec=0.02)
    assert node.label == "unconfigured"
    executor.shutdown()


class SlowRecorder(Recorder):
    """A recorder whose transitions have a slow part in a thread; `free` ends it."""

    def __init__(self):
        super().__init__()
        self.free = threading.Event()
        self.thread = ThreadPoolExecutor(1)

    def begin_set_up(self):
        self._record("begin_set_up")
        return self.thread.submit(self._work, "load")

    def begin_stop(self):
        self._record("begin_stop")
        return self.thread.submit(self._work, "last step")

    def _work(self, name):
        assert self.free.wait(20.0)
        self._record(name)


@pytest.fixture
def slow(ros):
    node = SlowRecorder()
    graph = Graph(node)
    yield node, graph
    node.free.set()
    graph.close()


def client_of(node, kind, name):
    client = node.create_client(kind, f"/recorder/{name}")
    assert client.wait_for_service(10.0)
    return client


def test_services_and_timers_are_served_while_a_transition_waits_for_its_slow_part(slow):
    node, graph = slow
    ticks = []
    node.create_timer(0.01, lambda: ticks.append(None))
    change, get = client_of(node, ChangeState, "change_state"), client_of(node, GetState, "get_state")

    def begin(label):
        request = ChangeState.Request()
        request.transition.label = label
        return change.call_async(request)

    for label, state in (("configure", "configuring"), ("deactivate", "deactivating")):
        node.free.clear()
        answer = begin(label)
        assert graph.until(lambda expected=state: node.label == expected)
        ticks.clear()
        assert graph.result_of(get.call_async(GetState.Request())).current_state.label == state
        assert graph.until(lambda: len(ticks) > 3)
        assert not graph.result_of(begin(label)).success  # one transition at a time
        assert not answer.done()
        node.free.set()
        assert graph.result_of(answer).success
        if label == "configure":
            assert graph.result_of(begin("activate")).success
    assert node.calls == ["begin_set_up", "load", "set_up", "start", "begin_stop", "last step", "stop"]


def test_a_node_of_a_process_that_ends_is_not_brought_up_any_more(slow, monkeypatch):
    """Its networks may be loaded just after Ctrl-C, and requests may still arrive."""
    node, graph = slow
    monkeypatch.setattr(node, "begin_stop", lambda: None)
    node.bring_up_soon()
    assert graph.until(lambda: node.label == "configuring")
    node.ending = True
    node.close()
    node.free.set()
    assert graph.until(lambda: node.label == "unconfigured")
    assert "start" not in node.calls
    assert "set_up" not in node.calls
    change = client_of(node, ChangeState, "change_state")
    request = ChangeState.Request()
    request.transition.label = "configure"
    assert not graph.result_of(change.call_async(request)).success
    assert node.calls.count("begin_set_up") == 1


def test_an_error_of_the_slow_part_fails_the_transition(slow):
    node, graph = slow
    node.free.set()
    for where in ("begin_set_up", "load"):
        node.errors = {where: ModelError("no such folder")}
        node.bring_up_soon()
        assert graph.until(lambda: node.failure and node.label == "unconfigured")
        assert node.failure == "can't configure: no such folder"
        node.failure = ""
        assert node.trigger_configure() == FAILURE
        assert node.failure == "can't configure: no such folder"
        node.failure = ""
    assert "set_up" not in node.calls


def test_a_deactivation_that_can_not_begin_is_reported_and_ends(slow):
    node, graph = slow
    node.free.set()
    node.trigger_configure()
    node.trigger_activate()
    node.errors = {"begin_stop": ModelError("no thread")}
    request = ChangeState.Request()
    request.transition.label = "deactivate"
    assert graph.result_of(client_of(node, ChangeState, "change_state").call_async(request)).success
    assert (node.label, node.failure) == ("inactive", "can't deactivate: no thread")


def run_program(program, *arguments):
    """Run a program in a process of its own until it ends."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
        capture_output=True,
        text=True,
        timeout=60,
    )


PROGRAM = """
import os, signal
from rclpy.clock import Clock, ClockType
from redepth_ros.ros.node.lifecycle import ManagedNode, spin

class Node(ManagedNode):
    settled = False

    def __init__(self):
        super().__init__("ending")
        self.declare_parameter("autostart", True)

    def start(self):
        print("active", flush=True)
        os.kill(os.getpid(), signal.SIGINT)

    def stop(self):
        print("stopped", flush=True)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(0.05, self.answer, clock=steady)

    def answer(self):
        if not self.settled:
            print("answered", flush=True)
            os.kill(os.getpid(), signal.SIGINT)  # an impatient user
        self.settled = True

    def tear_down(self):
        print("torn down", flush=True)

spin([Node])
print("ended")
"""


def test_spin_ends_a_process_after_its_clients_have_their_answers():
    ended = run_program(PROGRAM)
    assert ended.stdout.split("\n") == ["active", "stopped", "torn down", "answered", "ended", ""], (
        ended.stderr
    )
    assert ended.returncode == 0


LOADING = """
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor
from redepth_ros.ros.node.lifecycle import ManagedNode, spin

class Node(ManagedNode):
    def __init__(self):
        super().__init__("loading")
        self.declare_parameter("autostart", True)

    @property
    def stuck(self):
        return not self.work.done()

    def begin_set_up(self):
        self.work = ThreadPoolExecutor(1).submit(threading.Event().wait, 120)
        self.create_timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        return self.work

    def tear_down(self):
        print("torn down", flush=True)

spin([Node])
"""


def test_a_process_that_loads_ends_when_it_is_interrupted():
    ended = run_program(LOADING)
    assert (ended.stdout, ended.returncode) == ("torn down\n", 0), ended.stderr


LOADED = """
import os, signal, threading
from concurrent.futures import ThreadPoolExecutor
from redepth_ros.ros.node.lifecycle import ManagedNode, spin

class Node(ManagedNode):
    stuck = False

    def __init__(self):
        super().__init__("loaded")
        self.declare_parameter("autostart", True)
        self.thread, self.ended = ThreadPoolExecutor(1), threading.Event()
        self.loaded = threading.Event()

    def begin_set_up(self):
        os.kill(os.getpid(), signal.SIGINT)
        return self.thread.submit(self.loaded.wait)

    def start(self):
        print("active", flush=True)
        self.thread.submit(self.ended.wait, 100)

    def tear_down(self):
        self.loaded.set()

    def destroy_node(self):
        self.thread.shutdown()
        super().destroy_node()

spin([Node], [])
"""


def test_a_process_whose_networks_are_loaded_just_after_ctrl_c_ends():
    environment = {**os.environ, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    ended = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (ended.stdout, ended.returncode) == ("", 0), ended.stderr


STARTING = """
import os, signal, sys
from redepth_ros.ros.node.lifecycle import ManagedNode, spin

class Node(ManagedNode):
    def __init__(self):
        super().__init__("starting")
        self.declare_parameter("autostart", True)
        for _ in range(int(sys.argv[1])):
            os.kill(os.getpid(), signal.SIGINT)
        print("made", flush=True)

    def begin_set_up(self):
        print("configured", flush=True)

spin([Node], [])
"""


@pytest.mark.parametrize(("count", "output"), [(1, "made\n"), (2, "")])
def test_a_process_that_is_interrupted_while_it_makes_its_nodes_ends_in_peace(count, output):
    ended = run_program(STARTING, str(count))
    assert (ended.stdout, ended.stderr, ended.returncode) == (output, "", 0)


ASKED = """
import os, signal
from std_srvs.srv import Trigger
from redepth_ros.ros.node.lifecycle import ManagedNode, spin

class Node(ManagedNode):
    def __init__(self):
        super().__init__("asked")
        self.declare_parameter("autostart", True)
        self.service = self.create_service(Trigger, "ask", lambda request, response: response)
        self.client = self.create_client(Trigger, "ask")
        self.create_timer(0.1, self.end)

    def end(self):
        if self.client.service_is_ready():
            os.kill(os.getpid(), signal.SIGINT)

    def tear_down(self):
        for _ in range(8):
            self.client.call_async(Trigger.Request()).add_done_callback(lambda _: print("answered"))

spin([Node], [])
"""


def test_requests_that_had_arrived_are_answered_before_a_process_ends():
    ended = run_program(ASKED)
    assert (ended.stdout, ended.returncode) == ("answered\n" * 8, 0), ended.stderr
