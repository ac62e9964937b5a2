"""The base class of both nodes that run networks."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

import torch
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType

from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.nodes.player_settings import PlayerSettings
from redepth_ros.nodes.settings import DepthSettings, NetworkSettings, ServerSettings
from redepth_ros.ros.msgs.images import load_cv_bridge
from redepth_ros.ros.node.diagnostics import Diagnostics, Health
from redepth_ros.ros.node.lifecycle import ManagedNode
from redepth_ros.ros.node.parameters import Parameters
from redepth_ros.ros.node.throttled_log import ThrottledLog

__all__ = ["NetworkNode"]

SettingsT = TypeVar("SettingsT", bound=NetworkSettings)
NetworksT = TypeVar("NetworksT")

WARNING_DURATION = 5.0
"""Seconds for which diagnostics report a warning."""
REPORT_PERIOD = 1.0
"""Seconds between two diagnostics."""
TEST_IMAGE = (480, 640)
"""Height and width by which a new input_size is checked."""


class NetworkNode(ManagedNode, Generic[SettingsT, NetworksT]):
    """Owns the parameters, the networks and their thread, the log and the diagnostics.

    All of torch's parallel work runs in one thread, the model thread: every thread that does such work has
    its own OpenMP pool, and with more pool threads than cores all of them become slow.
    """

    known_parameters = frozenset(
        one.name for kind in (DepthSettings, ServerSettings, PlayerSettings) for one, _ in kind.declared()
    )

    def __init__(self, name: str, kind: type[SettingsT], title: str) -> None:
        """Args:
        name: of the node.
        kind: class of its parameters.
        title: of its diagnostics.
        """
        super().__init__(name)
        self._loading: Future[NetworksT] | None = None
        self._loading_since = 0.0  # on the monotonic clock
        self._progress = ""  # of loading, in words
        self.networks: NetworksT | None = None
        """The loaded networks; None while the node is not configured."""
        self.active = False
        """Whether the node is at work."""
        self.settings = kind()
        """The parameters in force; replaced as a whole by a change."""
        self._parameter_set = Parameters(
            self,
            kind,
            is_fixed=lambda: self.networks is not None or self._loading is not None,
            remedy="deactivate and clean up the node, set it, then configure and activate",
            changed=self._change_settings,
        )
        self._cores = torch.get_num_threads()
        self.log = ThrottledLog(self.get_logger())
        self.model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._diagnostics = Diagnostics(self, title)
        self._diagnostics.add("state", self._state)
        self.create_timer(REPORT_PERIOD, self.tick, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # What a node adds.

    @abstractmethod
    def load(self, settings: SettingsT) -> NetworksT:
        """Load the networks, in the model thread.

        Raises:
            ConfigError, ModelError: they can't be loaded.
        """

    @abstractmethod
    def depth_network(self, networks: NetworksT) -> DepthAnything:
        """Return the depth network among the networks."""

    @abstractmethod
    def model_names(self, settings: SettingsT) -> str:
        """Return which networks are loaded, for the log."""

    def connect(self, networks: NetworksT, settings: SettingsT) -> None:
        """Make what needs the loaded networks; the last part of configuring."""

    def adopt(self, settings: SettingsT) -> None:
        """Apply a change of the parameters at run time; called before `settings` is replaced."""

    def tick(self) -> None:
        """Called about once a second by the executor."""
        network = self.depth_network(self.networks) if self.networks is not None else None
        self._diagnostics.publish(network.device if network else None)

    def report_progress(self, text: str) -> None:
        """Show the progress of loading in the log and in the diagnostics; may be called by any thread."""
        self._progress = text
        self.get_logger().info(text)

    def add_health(self, name: str, task: Callable[[], Health]) -> None:
        """Add a part to the diagnostics; while the node is not active only its values are reported."""

        def report() -> Health:
            health = task()
            return health if self.active else replace(health, level=DiagnosticStatus.OK, message="")

        self._diagnostics.add(name, report)

    # Transitions.

    def begin_set_up(self) -> Future[NetworksT]:
        """Begin to load the networks, in the model thread."""
        load_cv_bridge()  # fails here, not at the first image
        self.settings = settings = self._parameter_set.settings()
        self._loading_since, self._progress = time.monotonic(), ""
        self.get_logger().info(
            f"loading {self.model_names(settings)} (models of the hub are downloaded once)"
        )
        self._loading = self.model_thread.submit(self._load, settings)
        return self._loading

    def set_up(self) -> None:
        """Take the loaded networks."""
        assert self._loading is not None
        networks, self._loading = self._loading.result(), None
        settings = self.settings  # those that are not fixed may have changed while the networks were loaded
        network = self.depth_network(networks)
        network.network_size(*TEST_IMAGE, settings.input_size)
        self.networks = networks
        self.connect(networks, settings)
        self.get_logger().info(
            f"{self.model_names(settings)} ready on {network.device} as {network.dtype} in "
            f"{time.monotonic() - self._loading_since:.1f} s"
        )

    def tear_down(self) -> None:
        """Release the networks."""
        self.networks = None
        if not self.stuck:
            self._loading = None
        if torch.cuda.is_available():
            with suppress(RuntimeError):  # after an error of the GPU; the reason is known already
                torch.cuda.empty_cache()

    @property
    def stuck(self) -> bool:
        """Whether networks are being loaded or downloaded."""
        return self._loading is not None and not self._loading.done()

    def destroy_node(self) -> None:
        """Destroy the node and end its thread, which no lifecycle transition does."""
        self.model_thread.shutdown(wait=not self.stuck)
        super().destroy_node()

    def give_up(self, reason: str) -> None:
        """Leave the active state because of an error that does not go away; may be called by any thread."""
        if self.executor is not None:
            self.executor.create_task(self.fail, reason)

    def _load(self, settings: SettingsT) -> NetworksT:
        torch.set_num_threads(settings.threads or self._cores)
        return self.load(settings)

    def _change_settings(self, settings: SettingsT) -> None:
        if self.networks is not None:
            # Raises ConfigError for less than one patch.
            self.depth_network(self.networks).network_size(*TEST_IMAGE, settings.input_size)
        self.adopt(settings)
        self.settings = settings

    def _state(self) -> Health:
        """Return the health of the node itself."""
        values = {
            "model": self.get_parameter("model").value,  # also before it is loaded
            "warnings": self.log.total,
            "last error": self.failure or self.log.last or "none",
        }
        if self.failure:
            return Health(DiagnosticStatus.ERROR, self.failure, values)
        if self._loading is not None:
            seconds = time.monotonic() - self._loading_since
            message = f"loading {self.model_names(self.settings)} for {seconds:.0f} s"
            message = f"{message}: {self._progress}" if self._progress else message
            return Health(DiagnosticStatus.OK, message, values)
        if self.networks is None:
            return Health(DiagnosticStatus.OK, "not configured", values)
        values["precision"] = str(self.depth_network(self.networks).dtype).removeprefix("torch.")
        if not self.active:
            return Health(DiagnosticStatus.OK, "inactive", values)
        if compiling := self.depth_network(self.networks).compiling:
            return Health(DiagnosticStatus.WARN, compiling, values)
        if time.monotonic() - self.log.last_at < WARNING_DURATION:
            return Health(DiagnosticStatus.WARN, self.log.last, values)
        return Health(values=values)
