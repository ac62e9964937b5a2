"""The base of both nodes: loading, parameters, lifecycle and diagnostics."""

import threading

import pytest
import torch

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from fakes import FakeClock, FakeDepthNetwork, Graph
from lifecycle_msgs.msg import State

from redepth_ros.core.errors import ConfigError
from redepth_ros.nodes import network_node
from redepth_ros.nodes.network_node import NetworkNode
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.ros.node.diagnostics import Health


class SmallNode(NetworkNode):
    """The smallest network node."""

    def __init__(self):
        super().__init__("small", DepthSettings, "small part")
        self.connected, self.adopted, self.threads = [], [], []
        self.free = threading.Event()
        self.free.set()

    def model_names(self, settings):
        return f"model {settings.model!r}"

    def depth_network(self, networks):
        return networks

    def load(self, settings):
        self.threads.append(threading.current_thread().name)
        assert self.free.wait(20.0)
        if settings.model == "missing":
            raise ConfigError("model 'missing' is not a folder")
        return FakeDepthNetwork()

    def connect(self, networks, settings):
        self.connected.append((networks, settings))

    def adopt(self, settings):
        if settings.scale == 13.0:
            raise ConfigError("scale is 13.0; that is unlucky")
        self.adopted.append(settings)

    def start(self):
        self.active = True

    def stop(self):
        self.active = False


@pytest.fixture
def node(ros):
    node = SmallNode()
    graph = Graph(node)
    graph.listen(node, DiagnosticArray, "/diagnostics")
    node.graph = graph
    yield node
    graph.close()


def state_of(node):
    return node._state_machine.current_state[0]


def status_of(node):
    """Return the next status of the node: level, message and values."""
    node.graph.received["/diagnostics"].clear()
    node.tick()
    array = node.graph.until(lambda: node.graph.received["/diagnostics"])[-1]
    (status,) = array.status
    assert status.name == "small: small part"
    return status.level, status.message, {value.key: value.value for value in status.values}


def test_configure_loads_in_the_model_thread_and_connects(node):
    node.trigger_configure()
    assert state_of(node) == State.PRIMARY_STATE_INACTIVE
    assert node.threads[0].startswith("model")
    assert node.connected == [(node.networks, node.settings)]


def test_diagnostics_and_parameters_respond_while_the_networks_are_loaded(node, set_parameters):
    node.free.clear()
    node.bring_up_soon()
    assert node.graph.until(lambda: state_of(node) == State.TRANSITION_STATE_CONFIGURING)
    assert node.stuck
    level, message, _ = status_of(node)
    assert (level, message) == (DiagnosticStatus.OK, f"loading model {DepthSettings().model!r} for 0 s")
    assert "model can't be changed" in set_parameters(node, model="other")[1]
    assert set_parameters(node, scale=2.0)[0]
    node.free.set()
    assert node.graph.until(lambda: state_of(node) == State.PRIMARY_STATE_ACTIVE)
    assert not node.stuck
    assert node.connected == [(node.networks, node.settings)]
    assert node.settings.scale == 2.0


def test_diagnostics_warn_while_a_runtime_compiles(node):
    node.trigger_configure()
    node.trigger_activate()
    node.networks.compiling = "compiling the network for 518x392 pixels by openvino"
    assert status_of(node)[:2] == (DiagnosticStatus.WARN, node.networks.compiling)
    node.networks.compiling = ""
    assert status_of(node)[0] == DiagnosticStatus.OK


def test_a_node_that_loads_is_closed_without_waiting(node):
    node.free.clear()
    node.bring_up_soon()
    assert node.graph.until(lambda: node.threads)
    node.close()
    assert node.networks is None
    assert node.stuck  # the process ends nevertheless, see test_lifecycle.py
    node.free.set()


def test_a_node_that_loads_is_destroyed_without_waiting(ros):
    node = SmallNode()
    node.free.clear()
    node.begin_set_up()
    destroying = threading.Thread(target=node.destroy_node)
    destroying.start()
    destroying.join(5.0)
    waited = destroying.is_alive()
    node.free.set()
    destroying.join()
    assert not waited


def test_cleanup_releases_the_networks(node):
    node.trigger_configure()
    node.trigger_cleanup()
    assert node.networks is None
    assert status_of(node)[1] == "not configured"


def test_a_network_that_can_not_be_loaded_fails_the_transition_and_another_works(node, set_parameters):
    assert set_parameters(node, model="missing")[0]
    node.trigger_configure()
    assert state_of(node) == State.PRIMARY_STATE_UNCONFIGURED
    level, message, values = status_of(node)
    assert level == DiagnosticStatus.ERROR
    assert message == values["last error"] == "can't configure: model 'missing' is not a folder"
    assert values["model"] == "missing"
    assert set_parameters(node, model="other")[0]
    node.trigger_configure()
    assert state_of(node) == State.PRIMARY_STATE_INACTIVE
    assert status_of(node)[:2] == (DiagnosticStatus.OK, "inactive")


def test_a_fixed_parameter_can_be_changed_only_while_not_configured(node, set_parameters):
    assert set_parameters(node, model="other") == (True, "")
    node.trigger_configure()
    successful, reason = set_parameters(node, model="third")
    assert not successful
    assert "model can't be changed" in reason
    assert "deactivate and clean up" in reason
    assert node.settings.model == "other"
    node.trigger_cleanup()
    assert set_parameters(node, model="third")[0]


def test_a_change_is_adopted_as_a_whole(node, set_parameters):
    node.trigger_configure()
    before = node.settings
    assert set_parameters(node, scale=2.0)[0]
    assert (before.scale, node.settings.scale) == (1.0, 2.0)
    assert node.adopted == [node.settings]


def test_a_change_that_is_refused_changes_nothing(node, set_parameters):
    node.trigger_configure()
    assert set_parameters(node, scale=13.0) == (False, "scale is 13.0; that is unlucky")
    assert node.settings.scale == 1.0
    assert node.get_parameter("scale").value == 1.0


def test_an_input_size_below_one_patch_is_refused_once_the_network_is_known(node, set_parameters):
    assert set_parameters(node, input_size=3)[0]
    assert set_parameters(node, input_size=0)[0]
    node.trigger_configure()
    successful, reason = set_parameters(node, input_size=3)
    assert not successful
    assert "input_size is 3 pixels" in reason
    assert set_parameters(node, input_size=4)[0]


def test_threads_are_those_of_the_parameter(node, set_parameters):
    set_parameters(node, threads=1)
    node.trigger_configure()
    assert node.model_thread.submit(torch.get_num_threads).result() == 1
    node.trigger_cleanup()
    set_parameters(node, threads=0)
    node.trigger_configure()
    assert node.model_thread.submit(torch.get_num_threads).result() == node._cores


def test_diagnostics_tell_the_state_of_the_node(node):
    assert status_of(node)[:2] == (DiagnosticStatus.OK, "not configured")
    node.trigger_configure()
    assert status_of(node)[:2] == (DiagnosticStatus.OK, "inactive")
    node.trigger_activate()
    level, _, values = status_of(node)
    assert level == DiagnosticStatus.OK
    assert (values["model"], values["device"], values["precision"]) == (
        DepthSettings().model,
        "cpu",
        "float32",
    )
    assert (values["warnings"], values["last error"]) == ("0", "none")
    assert float(values["memory (MiB)"]) > 50


def test_diagnostics_show_the_model_that_was_set_before_it_is_loaded(node, set_parameters):
    assert set_parameters(node, model="other")[0]
    assert status_of(node)[2]["model"] == "other"


def test_a_clock_that_stands_still_does_not_stop_the_diagnostics(ros, given):
    """A simulation that is paused, or has not begun."""
    given(use_sim_time=True)
    node = SmallNode()
    graph = Graph(node)
    graph.listen(node, DiagnosticArray, "/diagnostics")
    assert node.get_clock().now().nanoseconds == 0
    assert graph.until(lambda: graph.received["/diagnostics"], 3.0)
    graph.close()


def test_diagnostics_show_the_model_that_was_given_at_the_start(ros, given):
    given(model="given")
    node = SmallNode()
    graph = Graph(node)
    assert node._state().values["model"] == "given"
    graph.close()


def test_diagnostics_show_a_warning_for_some_seconds(node, monkeypatch):
    node.trigger_configure()
    node.trigger_activate()
    node.log.warn("image of 0x0 pixels")
    level, message, values = status_of(node)
    assert (level, message) == (DiagnosticStatus.WARN, "image of 0x0 pixels")
    assert (values["warnings"], values["last error"]) == ("1", "image of 0x0 pixels")
    clock = FakeClock(node.log.last_at + network_node.WARNING_DURATION + 0.1)
    monkeypatch.setattr(network_node.time, "monotonic", clock)
    assert node._state().level == DiagnosticStatus.OK
    assert node._state().values["last error"] == "image of 0x0 pixels"


def test_parts_add_their_values_and_their_health(node):
    node.add_health("part", lambda: Health(DiagnosticStatus.WARN, "no images on /image", {"frames in": 3}))
    node.add_health("unit", lambda: Health(DiagnosticStatus.OK, "depth is in metres", {"depth": "in metres"}))
    level, message, values = status_of(node)
    assert (level, message) == (DiagnosticStatus.OK, "not configured")
    assert values["frames in"] == "3"
    node.trigger_configure()
    node.trigger_activate()
    level, message, values = status_of(node)
    assert (level, message) == (DiagnosticStatus.WARN, "no images on /image")
    assert values["depth"] == "in metres"


def test_the_first_message_is_taken_where_all_is_well(node):
    node.add_health("part", lambda: Health(values={"frames in": 3}))
    node.add_health("unit", lambda: Health(DiagnosticStatus.OK, "depth is in metres"))
    node.trigger_configure()
    node.trigger_activate()
    assert status_of(node)[:2] == (DiagnosticStatus.OK, "depth is in metres")
