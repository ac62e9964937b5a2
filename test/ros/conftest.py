"""A real graph for tests: nodes in processes of their own, and a probe in this one."""

import array
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Log, Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from redepth_ros.core.camera import Intrinsics
from redepth_ros.ros.msgs.camera_info import camera_info
from redepth_ros.ros.msgs.images import encode_image
from redepth_ros.ros.streams.message_cache import nanoseconds

# Runs of this suite on one machine do not meet, nor other ROS 2 systems on the network.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

CAMERA = Intrinsics(100.0, 100.0, 63.5, 47.5, 128, 96)

PATIENCE = 60.0
"""Seconds within which what must come does, on a machine that is busy with other things, too."""


class Process:
    """An executable of the package, started as `ros2 run` would, its output kept."""

    def __init__(self, module: str, log: Path, parameters: dict, namespace: str = "") -> None:
        command = [sys.executable, "-m", f"redepth_ros.nodes.{module}", "--ros-args"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={value}"]
        if namespace:
            command += ["-r", f"__ns:={namespace}"]
        self.log = log
        with log.open("wb") as stream:
            self.popen = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.popen.send_signal(number)
        try:
            return self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise

    def said(self) -> str:
        return self.log.read_text(errors="replace")


class Probe(Node):
    """Publishes images as a camera does and collects all that the node publishes."""

    def __init__(self, target: str = "redepth_node", reliable: bool = True, namespace: str = "") -> None:
        super().__init__("probe", namespace=namespace)
        self.target = target
        self.executor_ = SingleThreadedExecutor()
        self.executor_.add_node(self)
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        quality = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=reliability)
        self.images = self.create_publisher(Image, "image", quality)
        self.compressed = self.create_publisher(CompressedImage, "image/compressed", quality)
        self.infos = self.create_publisher(CameraInfo, "camera_info", quality)
        self.received: dict[str, list] = {}
        self.listen(Image, "depth/image")
        self.listen(CameraInfo, "depth/camera_info")
        self.listen(DiagnosticArray, "/diagnostics")
        self.listen(Log, "/rosout")
        self._stamp = self.get_clock().now().nanoseconds

    def listen(self, kind, topic):
        """Subscribe, and keep what comes."""
        messages = self.received.setdefault(topic, [])
        return self.create_subscription(kind, topic, messages.append, 50)

    def listen_to_colours_and_points(self):
        return [self.listen(Image, "depth/color"), self.listen(PointCloud2, "depth/points")]

    def until(self, condition, seconds=PATIENCE, meanwhile=None, period=1.0):
        """Spin until a condition gives something true, and return that.

        Meanwhile something may be done, at once and then after each period (seconds).
        """
        end, due = time.monotonic() + seconds, time.monotonic()
        while (now := time.monotonic()) < end:
            if meanwhile is not None and now >= due:
                meanwhile()
                due = time.monotonic() + period
            if found := condition():
                return found
            self.executor_.spin_once(timeout_sec=min(period, 0.05))
        return condition()

    def spin(self, seconds):
        self.until(lambda: False, seconds)

    def next_header(self) -> Header:
        """A header with a stamp later than all before."""
        self._stamp = max(self._stamp + 1_000_000, self.get_clock().now().nanoseconds)
        header = Header(frame_id="camera")
        header.stamp.sec, header.stamp.nanosec = divmod(self._stamp, 1_000_000_000)
        return header

    def send(self, message=None, info=CAMERA, header=None) -> int:
        """Publish an image (by default a good one) with camera_info; its stamp."""
        header = header or self.next_header()
        if message is None:
            message = encode_image(picture(), "rgb8", header)
        message.header = header
        if info is not None:
            self.infos.publish(camera_info(info, header))
        if isinstance(message, CompressedImage):
            self.compressed.publish(message)
        else:
            self.images.publish(message)
        return nanoseconds(header.stamp)

    def of_stamp(self, topic, stamp):
        return next((m for m in self.received[topic] if nanoseconds(m.header.stamp) == stamp), None)

    def answer(self, stamp, topic="depth/image", seconds=PATIENCE):
        """The message of a stamp on a topic, or None."""
        return self.until(lambda: self.of_stamp(topic, stamp), seconds)

    def is_served(self, **sent):
        """Send a good image and see whether its depth comes."""
        return self.answer(self.send(**sent)) is not None

    def served_on(self, *topics, seconds=PATIENCE, send=None, period=2.0):
        """The stamp of an image that is answered on all of some topics.

        Images are sent until one is: best effort may lose a camera_info, and a topic may have been
        matched too late for the first.
        """
        stamps: list[int] = []

        def find():
            return next((one for one in stamps if all(self.of_stamp(topic, one) for topic in topics)), None)

        found = self.until(find, seconds, lambda: stamps.append((send or self.send)()), period)
        assert found, f"of {len(stamps)} images none was answered on all of {topics}"
        return found

    def wait_until_served(self, seconds=PATIENCE):
        """Send images until depth comes: the node loads, discovery takes place."""
        self.served_on("depth/image", seconds=seconds, period=1.0)
        self.served_on("depth/image", period=10.0)  # one more, after which none of those is on its way

    def diagnosis(
        self, condition=lambda values: True, seconds=PATIENCE, *, level=None, message="", meanwhile=None,
        period=1.0,
    ):  # fmt: skip
        """Level, message and values of the node's first diagnostics from now on that are as wanted.

        Wanted are a condition of the values, a level, and a pattern in the message.
        """
        now = self.get_clock().now().nanoseconds
        self.received["/diagnostics"].clear()

        def find():
            # What was sent before the call may come after it.
            new = [one for one in self.received["/diagnostics"] if nanoseconds(one.header.stamp) >= now]
            for status in (status for one in new for status in one.status):
                values = {value.key: value.value for value in status.values}
                if (
                    status.name.startswith(f"{self.target.lstrip('/')}:")
                    and level in (None, status.level)
                    and re.search(message, status.message)
                    and condition(values)
                ):
                    return status.level, status.message, values
            return None

        return self.until(find, seconds, meanwhile, period)

    def complaint(self, words, act):
        """Do something until the node complains of it in some words; what it gave, each time.

        Asked are the diagnostics: the log is silent about what it said within the last seconds.
        """
        before = int(self.diagnosis()[2]["complaints"])
        done = []
        found = self.diagnosis(
            lambda values: int(values["complaints"]) > before and words in values["last error"],
            meanwhile=lambda: done.append(act()), period=5.0,
        )  # fmt: skip
        assert found, f"no complaint of: {words}"
        return done

    def call(self, kind, service, request, seconds=PATIENCE):
        client = self.create_client(kind, f"{self.target}/{service}")
        try:
            assert self.until(client.service_is_ready, seconds), f"no service {service}"
            future = client.call_async(request)
            assert self.until(future.done, seconds), f"no answer from {service}"
            return future.result()
        finally:
            self.destroy_client(client)

    def change_state(self, transition) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(ChangeState, "change_state", request).success

    def state(self) -> str:
        return self.call(GetState, "get_state", GetState.Request()).current_state.label

    def state_is(self, label) -> bool:
        return self.state() == label

    def set_parameter(self, name, value):
        """Set one parameter; (successful, reason)."""
        kinds = {
            bool: (ParameterType.PARAMETER_BOOL, "bool_value"),
            int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
            float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
            str: (ParameterType.PARAMETER_STRING, "string_value"),
        }
        kind, field = kinds[type(value)]
        parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
        request = SetParameters.Request(parameters=[parameter])
        result = self.call(SetParameters, "set_parameters", request).results[0]
        return result.successful, result.reason

    def describe(self, names):
        request = DescribeParameters.Request(names=names)
        return self.call(DescribeParameters, "describe_parameters", request).descriptors

    def get_parameter_of(self, name):
        request = GetParameters.Request(names=[name])
        return self.call(GetParameters, "get_parameters", request).values[0]


def picture(height=CAMERA.height, width=CAMERA.width):
    v, u = np.mgrid[0:height, 0:width]
    return np.stack((u * 255 // width, v * 255 // height, (u + v) % 256), axis=-1).astype(np.uint8)


def depth_of(message) -> np.ndarray:
    """A depth message as floats, whatever its encoding."""
    dtype = {"32FC1": np.float32, "16UC1": np.uint16}[message.encoding]
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


def raw_message(height, width, encoding, step, size):
    message = Image(height=height, width=width, encoding=encoding, step=step)
    message.data = array.array("B", bytes(size))
    return message


@pytest.fixture(scope="session")
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def probe(ros):
    node = Probe()
    yield node
    node.executor_.shutdown()
    node.destroy_node()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Starts processes, and sees to it that none is left behind."""
    started = []

    def start_process(module, parameters, namespace=""):
        log = tmp_path_factory.mktemp(module) / "log"
        process = Process(module, log, parameters, namespace)
        started.append(process)
        return process

    yield start_process
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
            process.popen.wait()
