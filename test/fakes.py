"""Fakes of networks, of the refinement, of the server, of the camera and of the clock."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import rclpy.task
import torch
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from redepth_interfaces.action import RefineDepth
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome, Plan, Refinement, Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.depth_anything import Prediction
from redepth_ros.nodes.redepth_node import RedepthNode
from redepth_ros.nodes.refine_server import RefineServer
from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.msgs.images import image_to_msg
from redepth_ros.ros.msgs.time import nanoseconds, time_from_nanoseconds

CAMERA = PinholeCamera(40.0, 42.0, 15.5, 11.5, 32, 24)
"""A small camera: tests with fakes need no large images."""

PATIENCE = 20.0
"""Seconds within which an expected event happens, also on a busy machine."""


def sample_image(camera: PinholeCamera = CAMERA) -> np.ndarray:
    """Return a deterministic image, (H, W, 3) uint8."""
    v, u = np.mgrid[0 : camera.height, 0 : camera.width]
    channels = (u * 255 // camera.width, v * 255 // camera.height, (u + v) % 256)
    return np.stack(channels, axis=-1).astype(np.uint8)


def header_at(seconds: float, frame_id: str = "camera") -> Header:
    """Return a header with a stamp."""
    return Header(stamp=time_from_nanoseconds(round(seconds * 1e9)), frame_id=frame_id)


def image_at(seconds: float, image: np.ndarray | None = None) -> Image:
    """Return an rgb8 message with a stamp."""
    return image_to_msg(sample_image() if image is None else image, "rgb8", header_at(seconds))


def depth_array(message: Image) -> np.ndarray:
    """Return the values of a depth message, (H, W) or (H, W, C), whatever its encoding."""
    dtype, channels = {"32FC1": (np.float32, 1), "16UC1": (np.uint16, 1), "32FC3": (np.float32, 3)}[
        message.encoding
    ]
    values = np.frombuffer(message.data, dtype).reshape(message.height, message.width, channels)
    return values[..., 0] if channels == 1 else values


class FakeClock:
    """A monotonic clock that moves when told; for monkeypatching time.monotonic."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class FakeDepthNetwork:
    """A depth network whose disparity is 0.2 + brightness, and whose class token is the mean colour.

    `hold()` blocks predictions until `release()`; each prediction takes `delay` seconds, and raises `error`.
    """

    scale_source = ""

    def __init__(self, metric: bool = False, patch: int = 4) -> None:
        self.metric, self.patch = metric, patch
        self.name, self.longer_side = "fake", 32
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.error: Exception | None = None
        self.compiling = ""
        self.predictions = 0
        self.delay = 0.0
        self._free = threading.Event()
        self._free.set()

    def network_size(self, height: int, width: int, input_size: int = 0) -> tuple[int, int]:
        longest = input_size or self.longer_side
        if longest < self.patch:
            raise ConfigError(f"input_size is {longest} pixels; this network needs at least its patch")
        return self.patch, self.patch

    def hold(self) -> None:
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def output(self, image: np.ndarray) -> torch.Tensor:
        """Return what the network predicts, (H, W)."""
        return torch.from_numpy(0.2 + image.mean(-1) / 255.0).float()

    def predict(self, image: np.ndarray, input_size: int = 0) -> torch.Tensor:
        return self.predict_frame(image, input_size).output

    def predict_frame(self, image: np.ndarray, input_size: int = 0) -> Prediction:
        assert self._free.wait(PATIENCE)
        self.predictions += 1
        time.sleep(self.delay)
        if self.error is not None:
            raise self.error
        return Prediction(self.output(image), torch.from_numpy(image.mean((0, 1))).float(), self.known_scale)

    def known_scale(self, camera: PinholeCamera | None) -> Scale | None:
        """Return the scale of a network that needs the calibration; None for others."""
        return Scale(camera.fx / 300.0) if self.scale_source and camera else None


@dataclass
class FakeRun:
    """A refinement that moves the depth by 10 % and takes `step_time` seconds per step."""

    image: np.ndarray
    settings: RefineSettings
    options: dict
    network: FakeDepthNetwork
    step_time: float
    outcome: Outcome | None = None
    done: int = 0
    stop: bool = False

    def request_stop(self) -> None:
        self.stop = True

    @property
    def scale(self) -> Scale | None:
        return Scale(3.0, 0.1, (1e-4, 0.0, 0.0)) if self.options["anchors"] else None

    @property
    def metric(self) -> bool:
        return self.network.metric

    @property
    def known_scale(self) -> Scale | None:
        return self.network.known_scale(self.options["camera"])

    def steps(self):
        size = self.settings.ensemble_size
        for number in range(1, self.settings.steps + 1):
            if self.stop:
                return
            time.sleep(self.step_time)
            self.done = number
            yield Step(0, size, size, number, self.settings.steps, 0.5, 0.3, 0.2, 0.0)

    def result(self) -> Refinement:
        fast = self.network.output(self.image)[::2, ::2]  # (h, w)
        early = self.done < self.settings.steps
        outcome = self.outcome or (Outcome.STOPPED_EARLY if early else Outcome.REFINED)
        refined = fast if outcome == Outcome.KEPT_FAST else fast * 1.1
        spread = torch.full_like(fast, 0.05 if self.settings.ensemble_size > 1 else 0.0)
        return Refinement(
            refined,
            fast,
            spread,
            1.0 / refined,
            1.0 / fast,
            outcome,
            f"{outcome.label} after {self.done} of {self.settings.steps} steps",
            self.done,
            0.1,
            (),
            Plan.of(self.settings),
            self.options["prompt"],
            self.scale,
            self.network.metric,
            0.1,
        )


class FakeEngine:
    """An engine whose runs are fakes; `runs` are those that were started."""

    def __init__(self, metric: bool = False, light_conditioned: bool = True, step_time: float = 0.0) -> None:
        self.model = FakeDepthNetwork(metric)
        self.prior = SimpleNamespace(light_conditioned=light_conditioned, needs_gpu=False)
        self.step_time = step_time
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        self.runs: list[FakeRun] = []

    def start(self, image: np.ndarray, settings: RefineSettings, **options) -> FakeRun:
        if self.error is not None:
            raise self.error
        self.runs.append(FakeRun(image, settings, options, self.model, self.step_time, self.outcome))
        return self.runs[-1]


class FakeRedepthNode(RedepthNode):
    """The fast node with a fake network."""

    network = None

    def load(self, settings):
        if settings.model == "missing":
            raise ConfigError("model 'missing' is not a folder")
        self.network = FakeDepthNetwork()
        return self.network


class FakeRefineServer(RefineServer):
    """The refine server with a fake engine."""

    engine = None

    def load(self, settings):
        self.engine = self.engine or FakeEngine()
        return self.engine


@dataclass
class FakeAnchorSource:
    """Returns the next of a list of anchors, None, or raises the next of a list of errors."""

    items: list[Anchors | Exception | None] = field(default_factory=list)
    stamp_distance: float = float("nan")

    def anchors(self, header, height, width, camera) -> Anchors | None:
        item = self.items.pop(0) if self.items else None
        if isinstance(item, Exception):
            raise item
        return item


class FakeActionServer:
    """An action server `refine` whose goals end when told."""

    def __init__(self, node: Node) -> None:
        self.accept = True
        self.goals: list[RefineDepth.Goal] = []
        self.cancelled = 0
        """Goals whose end was requested."""
        self._ends: list = []
        self._node = node
        self.server = ActionServer(
            node,
            RefineDepth,
            "refine",
            execute_callback=self._execute,
            goal_callback=lambda goal: GoalResponse.ACCEPT if self.accept else GoalResponse.REJECT,
            cancel_callback=self._cancel,
        )

    @property
    def asked(self) -> bool:
        """Whether a client waits for a result: it knows that its goal is accepted."""
        return any(future._callbacks for future in self.server._result_futures.values())

    def _cancel(self, handle) -> CancelResponse:
        self.cancelled += 1
        return CancelResponse.ACCEPT

    async def _execute(self, handle):
        self.goals.append(handle.request)
        end = rclpy.task.Future(executor=self._node.executor)
        end.add_done_callback(lambda _: None)
        self._ends.append(end)
        result = await end
        handle.abort() if result.outcome == RefineDepth.Result.OUTCOME_FAILED else handle.succeed()
        return result

    def end(self, outcome: int = RefineDepth.Result.OUTCOME_REFINED, message: str = "refined") -> None:
        """End the oldest goal."""
        self._ends.pop(0).set_result(RefineDepth.Result(outcome=outcome, message=message))

    def destroy(self) -> None:
        self.server.destroy()


class FakeCamera:
    """Publishes images and their camera_info with increasing stamps."""

    def __init__(self, node: Node, camera: PinholeCamera = CAMERA) -> None:
        self.camera = camera
        self._images = node.create_publisher(Image, "image", 10)
        self._compressed = node.create_publisher(CompressedImage, "image/compressed", 10)
        self._infos = node.create_publisher(CameraInfo, "camera_info", 10)
        self._stamp = 1_000_000_000_000

    def next_header(self) -> Header:
        self._stamp += 40_000_000
        return Header(stamp=time_from_nanoseconds(self._stamp), frame_id="camera")

    def send(self, image=None, *, info: bool = True, header: Header | None = None) -> int:
        """Publish an image (an array or a message) with its camera_info; return its stamp."""
        header = header or self.next_header()
        if info:
            self._infos.publish(camera_to_msg(self.camera, header))
        if image is None or isinstance(image, np.ndarray):
            image = image_to_msg(sample_image(self.camera) if image is None else image, "rgb8", header)
        image.header = header
        (self._compressed if isinstance(image, CompressedImage) else self._images).publish(image)
        return nanoseconds(header.stamp)


class Graph:
    """Nodes in this process, spun by the test's own thread."""

    def __init__(self, *nodes: Node) -> None:
        self.executor = SingleThreadedExecutor()
        self.nodes: list[Node] = []
        for node in nodes:
            self.add(node)
        self.received: dict[str, list] = {}

    def add(self, node: Node) -> None:
        self.nodes.append(node)
        self.executor.add_node(node)

    def listen(self, node: Node, kind: type, *topics: str) -> None:
        """Subscribe, and collect messages in `received`."""
        for topic in topics:
            node.create_subscription(kind, topic, self.received.setdefault(topic, []).append, 50)

    def until(self, condition, seconds: float = PATIENCE):
        """Spin until a condition is true; return its value."""
        end = time.monotonic() + seconds
        while not (found := condition()) and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)
        return found

    def spin(self, seconds: float) -> None:
        self.until(lambda: False, seconds)

    def at_stamp(self, topic: str, stamp: int):
        """Return the message of a stamp, or None."""
        return next((m for m in self.received[topic] if nanoseconds(m.header.stamp) == stamp), None)

    def wait_for(self, topic: str, stamp: int):
        """Spin until the message of a stamp arrives, and return it."""
        found = self.until(lambda: self.at_stamp(topic, stamp))
        assert found is not None, f"nothing of stamp {stamp} on {topic}"
        return found

    def result_of(self, future):
        """Spin until a future is done, and return its result."""
        assert self.until(future.done), "the future is not done"
        return future.result()

    def close(self) -> None:
        for node in self.nodes:
            if hasattr(node, "close"):
                node.close()
        self.spin(0.01)
        self.executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
