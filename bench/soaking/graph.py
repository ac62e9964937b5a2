"""The graph of the soak: processes that are started and ended, and a monitor."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from action_msgs.msg import GoalStatusArray
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_action_status_default
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import Image
from unique_identifier_msgs.msg import UUID

from bench.soaking.rules import Interval
from redepth_ros.ros.msgs.refine_depth import FINAL_STATES
from redepth_ros.ros.node.qos import GOALS, OUTPUT

__all__ = ["Child", "GoalRecord", "Monitor"]

CALL_TIMEOUT = 10.0
"""Seconds within which a service responds; it is called up to `CALLS` times."""
CALLS = 3
DISCOVERY_TIME = 10.0
"""Seconds around a start or an end of the server within which DDS may lose calls."""
END_TIMEOUT = 120.0
"""Seconds within which a process ends after SIGINT, also on a busy machine."""


class Child:
    """A process of the graph. Only `start`, `interrupt` and `kill` may change whether it runs."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        """Args:
        name: of the node.
        command: arguments of Python.
        folder: where the output goes.
        """
        self.name, self._command, self._log = name, command, folder / f"{name}.log"
        self._folder = folder
        self.told_to_run = False
        self.starts = 0
        self.changes: list[float] = []
        """When the process was started, active and told to end, on the monotonic clock, seconds."""
        self.lost: list[str] = []
        """How the process ended without being told to, or otherwise than it was told to."""
        self.memory: list[list[tuple[float, float]]] = []
        """Of each life: seconds and resident memory, MiB."""
        self.threads: list[list[tuple[float, float]]] = []

    def start(self) -> None:
        environment = {**os.environ, "ROS_LOG_DIR": str(self._folder)}
        with self._log.open("ab") as log:
            self.popen = subprocess.Popen(
                [sys.executable, *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # A background job of a shell ignores SIGINT, and its children would inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        self.starts += 1
        self.changes.append(time.monotonic())
        self.memory.append([])
        self.threads.append([])
        self.told_to_run = True

    def forget_start(self) -> None:
        """Drop the samples so far: the networks were being loaded, and the node is active now."""
        self.changes.append(time.monotonic())
        self.memory[-1].clear()
        self.threads[-1].clear()

    def interrupt(self) -> None:
        """Send SIGINT, as Ctrl-C does; the process must end with the status 0 or that of an interrupt."""
        self.told_to_run = False
        self.changes.append(time.monotonic())
        self.popen.send_signal(signal.SIGINT)
        try:
            status = self.popen.wait(END_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.lost.append(f"did not end within {END_TIMEOUT:g} s of SIGINT")
            self.kill()
        else:
            if status not in (0, 130, -signal.SIGINT):
                self.lost.append(f"ended with status {status} after SIGINT")

    def kill(self) -> None:
        self.told_to_run = False
        self.changes.append(time.monotonic())
        self.popen.kill()
        self.popen.wait()

    def tell(self, **state: Any) -> None:
        """Change the behaviour of the camera."""
        assert self.popen.stdin is not None
        self.popen.stdin.write((json.dumps(state) + "\n").encode())
        self.popen.stdin.flush()

    def watch(self) -> None:
        """Record memory and threads, or that the process has ended; call it about once a second."""
        if not self.told_to_run:
            return
        try:
            process = psutil.Process(self.popen.pid)
            now, memory, threads = time.monotonic(), process.memory_info().rss, process.num_threads()
        except psutil.NoSuchProcess:
            memory = 0
        if self.popen.poll() is None and memory:
            self.memory[-1].append((now, memory / 2**20))
            self.threads[-1].append((now, float(threads)))
        elif self.told_to_run:  # not ended meanwhile by another thread
            self.lost.append(f"ended by itself with status {self.popen.poll()}")
            self.told_to_run = False

    @contextmanager
    def no_file_grows(self) -> Iterator[None]:
        """Let every write of the process to a file fail, as on a full disk."""
        pid, kind = self.popen.pid, resource.RLIMIT_FSIZE
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (0, hard))
        try:
            yield
        finally:
            resource.prlimit(pid, kind, (hard, hard))

    def tracebacks(self) -> int:
        return self._log.read_text(errors="replace").count("Traceback (most recent call last)")

    def log_end(self, lines: int = 15) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class GoalRecord:
    """A goal of the monitor."""

    sent_at: float
    goal_id: UUID = field(default_factory=lambda: UUID(uuid=list(uuid.uuid4().bytes)))
    state: str = "sent"
    """sent, accepted, or the final one."""
    handle: Any = None
    result: Any = field(default=None, repr=False)

    @property
    def final(self) -> bool:
        return self.state not in ("sent", "accepted")


class Monitor(Node):
    """Sees what the graph publishes, sends goals and calls services; spins in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("monitor")
        self.started_at = time.monotonic()
        """When the faults began."""
        self.depths: list[float] = []
        """Arrivals of fast depth on the monotonic clock, seconds."""
        self.images: list[float] = []
        """Arrivals of the camera's images: the control."""
        self.refined = 0
        self.keyframes = (0, 0)
        """Keyframes that the node has sent, and those whose end it knows, since its start."""
        self.pauses: list[Interval] = []
        self.goals: list[GoalRecord] = []
        self.unanswered: list[str] = []
        """Service calls without a response."""
        self.create_subscription(Image, "depth/image", lambda _: self.depths.append(time.monotonic()), OUTPUT)
        self.create_subscription(Image, "image", lambda _: self.images.append(time.monotonic()), OUTPUT)
        self.create_subscription(Image, "refined/depth", self._count_refined, 10)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self._refine = ActionClient(
            self, RefineDepth, "refine", goal_service_qos_profile=GOALS, result_service_qos_profile=GOALS
        )
        self.create_subscription(
            GoalStatusArray, "refine/_action/status", self._on_status, qos_profile_action_status_default
        )
        self._own_clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.destroy_node()

    def _count_refined(self, _: Image) -> None:
        self.refined += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            values = {value.key: value.value for value in status.values}
            if "keyframes sent" in values:
                self.keyframes = (int(values["keyframes sent"]), int(values["keyframes ended"]))

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Allow the fast stream to be silent within the block."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.pauses.append((start, time.monotonic()))

    # Services.

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Return the response of a service; None, which is recorded, without one."""
        response = self._call(kind, name, request)
        if response is None:
            self.unanswered.append(name)
        return response

    def _call(self, kind: Any, name: str, request: Any) -> Any:
        """Return the response of a service, or None; DDS may lose a call right after a start."""
        if name not in self._own_clients:
            self._own_clients[name] = self.create_client(kind, name)
        client = self._own_clients[name]
        for _ in range(CALLS):
            if not client.wait_for_service(CALL_TIMEOUT):
                continue
            done = threading.Event()
            future = client.call_async(request)
            future.add_done_callback(lambda _, done=done: done.set())
            if done.wait(CALL_TIMEOUT):
                return future.result()
            client.remove_pending_request(future)
        return None

    def state(self, node: str) -> str:
        """Return the state of a node, which may be starting."""
        response = self._call(GetState, f"{node}/get_state", GetState.Request())
        return response.current_state.label if response is not None else "unknown"

    def wait_for_state(self, node: str, label: str, seconds: float = 300.0) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.state(node) == label:
                return True
            time.sleep(0.2)
        return False

    def transition(self, node: str, name: str, label: str) -> None:
        """Request a transition, and wait until the node is in the state with a label."""
        number = getattr(Transition, f"TRANSITION_{name.upper()}")
        self.call(ChangeState, f"{node}/change_state", ChangeState.Request(transition=Transition(id=number)))
        if not self.wait_for_state(node, label):
            self.unanswered.append(f"{node}: {name} does not lead to {label}")

    def set_parameter(self, node: str, name: str, value: Any) -> bool | None:
        """Set a parameter; return whether the node took it, None without a response."""
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        response = self.call(SetParameters, f"{node}/set_parameters", request)
        return response.results[0].successful if response is not None else None

    # Goals.

    def send_goal(self, goal: RefineDepth.Goal) -> GoalRecord:
        """Send a goal, whose record is kept up to date."""
        record = GoalRecord(time.monotonic())
        self.goals.append(record)
        # In another thread, rclpy would lose a response that comes at once.
        self._executor.create_task(self._send, record, goal)
        return record

    def _send(self, record: GoalRecord, goal: RefineDepth.Goal) -> None:
        response = self._refine.send_goal_async(goal, goal_uuid=record.goal_id)
        response.add_done_callback(lambda future: self._on_response(record, future))

    def _on_status(self, message: GoalStatusArray) -> None:
        """Record the states of accepted goals, also of those whose response was lost."""
        states = {bytes(one.goal_info.goal_id.uuid): one.status for one in message.status_list}
        for record in self.goals:
            status = states.get(bytes(record.goal_id.uuid))
            if status is not None and not record.final:
                record.state = FINAL_STATES.get(status, "accepted")

    def give_up_lost_goals(self, changes: Sequence[float]) -> None:
        """Give a final state to goals that DDS lost: without a response, and sent while their server changed.

        Args:
            changes: times of the server, see `Child.changes`.
        """
        now = time.monotonic()
        for record in self.goals:
            during_change = any(abs(record.sent_at - change) < DISCOVERY_TIME for change in changes)
            if record.state == "sent" and during_change and now - record.sent_at > DISCOVERY_TIME:
                record.state = "lost: no response"

    def _on_response(self, record: GoalRecord, future: Any) -> None:
        handle = future.result()
        if handle is None or not handle.accepted:
            record.state = "rejected"
            return
        record.handle = handle
        if record.state == "sent":
            record.state = "accepted"
        record.result = handle.get_result_async()
        record.result.add_done_callback(lambda done: self._on_result(record, done))

    def _on_result(self, record: GoalRecord, future: Any) -> None:
        if not record.final:
            record.state = FINAL_STATES.get(future.result().status, f"status {future.result().status}")

    def give_up_goals(self, state: str) -> None:
        """Give all open goals a final state: their server was killed."""
        for record in self.goals:
            if not record.final:
                record.state = state

    def wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            time.sleep(0.05)
        return condition()
