"""A real graph for tests: executables in processes of their own, and a probe in this one."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import nanoseconds, time_from_nanoseconds
from redepth_ros.ros.node.qos import GOALS
from redepth_ros.ros.parameter_arguments import parameter_arguments

CAMERA = PinholeCamera(100.0, 100.0, 63.5, 47.5, 128, 96)

DEPTH = {"model": "tiny", "device": "cpu", "threads": 1, "max_depth": 1000.0, "keyframes": "none"}
SERVER = {
    "model": "tiny",
    "device": "cpu",
    "prior": "tiny",
    "ensemble_size": 1,
    "steps": 4,
    "max_depth": 1000.0,
}

PATIENCE = 60.0
"""Seconds within which an expected event happens, also on a busy machine."""


RETRY_TIME = 20.0
"""Seconds after which a call without a response is repeated: DDS loses some."""

STATES = {"configure": "inactive", "activate": "active", "deactivate": "inactive", "cleanup": "unconfigured"}
"""State of a node after a transition."""


class Process:
    """An executable of the package, started as `ros2 run` does, with its output in a file."""

    def __init__(self, module: str, log: Path, parameters: dict, namespace: str = "", env=None) -> None:
        command = [sys.executable, "-m", f"redepth_ros.nodes.{module}", "--ros-args"]
        command += parameter_arguments(parameters)
        if namespace:
            command += ["-r", f"__ns:={namespace}"]
        self.log = log
        with log.open("wb") as stream:
            self.popen = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=env)

    def signal(self, number: int = signal.SIGINT) -> None:
        self.popen.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process; return its exit status."""
        return self.popen.wait(PATIENCE)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Listener(Node):
    """A node that is spun by the test itself, and collects messages."""

    def __init__(self, name: str, namespace: str) -> None:
        super().__init__(name, namespace=namespace)
        self.spinner = SingleThreadedExecutor()
        self.spinner.add_node(self)
        self.received: dict[str, list] = {}
        self.feedback: list = []

    def close(self) -> None:
        self.spinner.shutdown()
        self.destroy_node()

    def forget(self) -> None:
        """Drop all messages that were collected."""
        self.spin(0.0)
        for messages in self.received.values():
            messages.clear()
        self.feedback = []

    def listen(self, kind, *topics) -> None:
        """Subscribe, and collect messages in `received`."""
        for topic in topics:
            if topic not in self.received:
                self.create_subscription(kind, topic, self.received.setdefault(topic, []).append, 50)

    def until(self, condition, seconds=PATIENCE, meanwhile=None, period=1.0):
        """Spin until a condition is true, and return its value.

        Meanwhile call a function, at once and then after each period (seconds).
        """
        end, due = time.monotonic() + seconds, time.monotonic()
        while (now := time.monotonic()) < end:
            if meanwhile is not None and now >= due:
                meanwhile()
                due = time.monotonic() + period
            if found := condition():
                return found
            self.spinner.spin_once(timeout_sec=min(period, 0.05))
        return condition()

    def spin(self, seconds) -> None:
        self.until(lambda: False, seconds)

    def at_stamp(self, topic, stamp):
        """Return the message of a stamp, or None."""
        return next((m for m in self.received[topic] if nanoseconds(m.header.stamp) == stamp), None)


class Probe(Listener):
    """Publishes images as a camera does, calls the node, and collects all that it publishes."""

    def __init__(
        self, namespace: str = "", target: str = "redepth_node", name: str = "probe", reliable: bool = True
    ) -> None:
        super().__init__(name, namespace)
        self.target = target
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=reliability)
        self.images = self.create_publisher(Image, "image", quality)
        self.compressed = self.create_publisher(CompressedImage, "image/compressed", quality)
        self.infos = self.create_publisher(CameraInfo, "camera_info", quality)
        self.refine = ActionClient(
            self, RefineDepth, "refine", goal_service_qos_profile=GOALS, result_service_qos_profile=GOALS
        )
        self.listen(Image, "depth/image")
        self.listen(CameraInfo, "depth/camera_info")
        self.listen(DiagnosticArray, "/diagnostics")
        self.listen(Log, "/rosout")
        self._own_clients: dict[str, object] = {}
        self._stamp = self.get_clock().now().nanoseconds

    def close(self) -> None:
        self.refine.destroy()
        super().close()

    # Images and their depth.

    def next_header(self) -> Header:
        """Return a header whose stamp is later than all before."""
        self._stamp = max(self._stamp + 1_000_000, self.get_clock().now().nanoseconds)
        return Header(stamp=time_from_nanoseconds(self._stamp), frame_id="camera")

    def send(self, message=None, info=CAMERA, header=None) -> int:
        """Publish an image (by default a valid one) with camera_info; return its stamp."""
        header = header or self.next_header()
        if message is None:
            message = image_to_msg(sample_image(), "rgb8", header)
        message.header = header
        if info is not None:
            self.infos.publish(camera_to_msg(info, header))
        (self.compressed if isinstance(message, CompressedImage) else self.images).publish(message)
        return nanoseconds(header.stamp)

    def depth_of(self, stamp, topic="depth/image", seconds=PATIENCE):
        """Wait for the message of a stamp, and return it."""
        found = self.until(lambda: self.at_stamp(topic, stamp), seconds)
        assert found is not None, f"nothing of stamp {stamp} on {topic}"
        return found

    def sent_until(self, *topics, seconds=PATIENCE, send=None, period=0.5) -> int:
        """Send images until one has messages on all topics; return its stamp.

        Best effort may lose a camera_info, and a topic may be matched too late for the first image.
        """
        stamps: list[int] = []

        def find():
            return next((s for s in stamps if all(self.at_stamp(topic, s) for topic in topics)), None)

        found = self.until(find, seconds, lambda: stamps.append((send or self.send)()), period)
        assert found, f"none of {len(stamps)} images has messages on all of {topics}"
        return found

    # The node.

    def diagnostics(
        self,
        condition=lambda values: True,
        seconds=PATIENCE,
        *,
        level=None,
        message="",
        meanwhile=None,
        period=0.5,
    ):
        """Wait for a status from now on; return its level, message and values.

        Args:
            condition: of its values.
            level: of the status; None accepts all.
            message: pattern in its message.
        """
        now = self.get_clock().now().nanoseconds
        self.received["/diagnostics"].clear()
        name = f"{self.get_namespace().rstrip('/')}/{self.target}".lstrip("/")

        def find():
            new = [m for m in self.received["/diagnostics"] if nanoseconds(m.header.stamp) >= now]
            for status in (status for array in new for status in array.status):
                values = {value.key: value.value for value in status.values}
                if (
                    status.name.startswith(f"{name}:")
                    and level in (None, status.level)
                    and re.search(message, status.message)
                    and condition(values)
                ):
                    return status.level, status.message, values
            return None

        found = self.until(find, seconds, meanwhile, period)
        assert found, f"no such status; the last ones: {self.received['/diagnostics'][-3:]}"
        return found

    def warns(self, words, act) -> list:
        """Repeat an action until the node warns; return what the action returned each time."""
        done: list = []
        self.diagnostics(
            lambda values: words in values["last error"], meanwhile=lambda: done.append(act()), period=3.0
        )
        return done

    def call(self, kind, service, request):
        """Call a service of the node, or of the namespace if its name starts with a slash."""
        client = self._client(kind, service)
        assert self.until(client.service_is_ready), f"no service {client.srv_name}"
        return self._response(lambda: client.call_async(request), f"no response from {client.srv_name}")

    def _response(self, call, lacking):
        """Return the response to a call, which is repeated after a while.

        DDS loses a response if the service has not found the client yet, which has found the service.
        """

        def respond():
            future = call()
            return self.until(future.done, RETRY_TIME) and future.result()

        response = self.until(respond)
        assert response, lacking
        return response

    def _client(self, kind, service):
        name = service.lstrip("/") if service.startswith("/") else f"{self.target}/{service}"
        if name not in self._own_clients:
            self._own_clients[name] = self.create_client(kind, name)
        return self._own_clients[name]

    def change_state(self, *transitions: str) -> bool:
        """Request transitions by their names, and return whether all succeeded."""
        return all(self._change_state(name) for name in transitions)

    def _change_state(self, name: str) -> bool:
        number = getattr(Transition, f"TRANSITION_{name.upper()}")
        client = self._client(ChangeState, "change_state")
        assert self.until(client.service_is_ready), f"no service {client.srv_name}"
        future = client.call_async(ChangeState.Request(transition=Transition(id=number)))
        if self.until(future.done):
            return future.result().success
        return self.state() == STATES[name]  # the response was lost

    def state(self) -> str:
        """Return the state of the node."""
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def wait_until_active(self, process: Process) -> None:
        """Wait until the node of a process is active; fail with its output if the process has ended."""

        def active():
            assert process.popen.poll() is None, process.output()
            return client.service_is_ready() and self.state() == "active"

        client = self._client(GetState, "get_state")
        assert self.until(active), f"{self.target} is not active"

    def set_parameters(self, **values):
        """Set parameters; return (successful, reasons)."""
        parameters = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        request = SetParameters.Request(parameters=parameters)
        results = self.call(SetParameters, "set_parameters", request).results
        return all(r.successful for r in results), "; ".join(r.reason for r in results)

    def describe(self, *names):
        request = DescribeParameters.Request(names=names)
        descriptors = self.call(DescribeParameters, "describe_parameters", request).descriptors
        return {descriptor.name: descriptor for descriptor in descriptors}

    # Goals.

    def goal(self, image=None, **fields):
        """Return a goal with an image and its calibration."""
        header = self.next_header()
        goal = RefineDepth.Goal(image=image or image_to_msg(sample_image(), "rgb8", header), **fields)
        goal.camera_info = camera_to_msg(CAMERA, header)
        return goal

    def send_goal(self, goal=None):
        """Return the handle of a goal once it was accepted or rejected."""
        assert self.until(self.refine.server_is_ready), "no action server"
        goal, feedback = goal or self.goal(), self.feedback  # a late message belongs to the list of its goal

        def send():
            return self.refine.send_goal_async(goal, feedback_callback=lambda m: feedback.append(m.feedback))

        return self._response(send, "the goal was neither accepted nor rejected")

    def result_of(self, handle):
        """Return status and result of a goal."""
        response = self._response(handle.get_result_async, "the goal does not end")
        return response.status, response.result

    def refine_one(self, goal=None):
        """Return status and result of a goal that is accepted."""
        handle = self.send_goal(goal)
        assert handle.accepted
        return self.result_of(handle)


def sample_image(height=CAMERA.height, width=CAMERA.width) -> np.ndarray:
    """Return a deterministic image, (H, W, 3) uint8."""
    v, u = np.mgrid[0:height, 0:width]
    return np.stack((u * 255 // width, v * 255 // height, (u + v) % 256), axis=-1).astype(np.uint8)


def depth_array(message: Image) -> np.ndarray:
    """Return the values of a depth message, (H, W), whatever its encoding."""
    dtype = {"32FC1": np.float32, "16UC1": np.uint16}[message.encoding]
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)
