"""A real graph for tests: nodes in processes of their own, and a probe in this one."""

import array
import os
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

from redepth_ros.core.intrinsics import Intrinsics
from redepth_ros.ros.cameras import camera_info
from redepth_ros.ros.images import encode_image
from redepth_ros.ros.stamps import nanoseconds

# Runs of this suite on one machine do not meet, nor other ROS 2 systems on the network.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

CAMERA = Intrinsics(100.0, 100.0, 63.5, 47.5, 128, 96)


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
            return self.popen.wait(20)
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

    def until(self, condition, seconds=20.0):
        """Spin until a condition gives something true, and return that."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := condition():
                return found
            self.executor_.spin_once(timeout_sec=0.05)
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

    def answer(self, stamp, topic="depth/image", seconds=20.0):
        """The message of a stamp on a topic, or None."""
        return self.until(lambda: self.of_stamp(topic, stamp), seconds)

    def is_served(self, **sent):
        """Send a good image and see whether its depth comes."""
        return self.answer(self.send(**sent)) is not None

    def wait_until_served(self, seconds=60.0, **sent):
        """Send images until a first depth comes: the node loads, discovery takes place."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.answer(self.send(**sent), seconds=1.0):
                return
        raise AssertionError("no depth")

    def heard(self, text, seconds=10.0):
        """The logged message with a text in it, or None."""
        return self.until(
            lambda: next((m.msg for m in self.received["/rosout"] if text in m.msg), None), seconds
        )

    def diagnosis(self, condition=lambda values: True, seconds=10.0):
        """Level, message and values of the node's next diagnostics that meet a condition."""
        self.received["/diagnostics"].clear()

        def find():
            for message in self.received["/diagnostics"]:
                for status in message.status:
                    values = {value.key: value.value for value in status.values}
                    if status.name.startswith(f"{self.target.lstrip('/')}:") and condition(values):
                        return status.level, status.message, values
            return None

        return self.until(find, seconds)

    def call(self, kind, service, request, seconds=30.0):
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
