"""The reliability of an image subscription."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import CAMERA, Graph, header_at, image_at
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from redepth_ros.ros.msgs.camera_info import camera_to_msg
from redepth_ros.ros.streams.subscription import CalibrationSubscription, NewestSubscription

BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE


@pytest.fixture
def graph(ros):
    graph = Graph(rclpy.create_node("newest", namespace="/newest"))
    yield graph
    graph.close()


def reliability_of(subscription):
    return subscription._subscription.qos_profile.reliability


def test_auto_is_reliable_without_a_publisher(graph):
    subscription = NewestSubscription(graph.nodes[0], Image, "image", lambda m: None)
    assert reliability_of(subscription) == RELIABLE
    assert subscription.topic == "/newest/image"


def test_auto_follows_a_best_effort_publisher_that_appears_later(graph):
    node, received = graph.nodes[0], []
    subscription = NewestSubscription(node, Image, "image", received.append)
    publisher = node.create_publisher(Image, "image", QoSProfile(depth=5, reliability=BEST_EFFORT))
    assert graph.until(lambda: subscription.refresh() or reliability_of(subscription) == BEST_EFFORT)
    assert graph.until(lambda: publisher.publish(image_at(1.0)) or received)
    node.destroy_publisher(publisher)
    assert graph.until(lambda: subscription.refresh() or reliability_of(subscription) == RELIABLE)


@pytest.mark.parametrize(("name", "reliability"), [("best_effort", BEST_EFFORT), ("reliable", RELIABLE)])
def test_a_given_reliability_is_kept(graph, name, reliability):
    node = graph.nodes[0]
    node.create_publisher(Image, "image", QoSProfile(depth=5, reliability=BEST_EFFORT))
    graph.spin(0.1)
    subscription = NewestSubscription(node, Image, "image", lambda m: None, name)
    subscription.refresh()
    assert reliability_of(subscription) == reliability


def test_destroy_unsubscribes(graph):
    node = graph.nodes[0]
    subscription = NewestSubscription(node, Image, "image", lambda m: None)
    subscription.destroy()
    assert graph.until(lambda: node.count_subscribers("image") == 0)


def test_a_calibration_that_was_published_before_is_received(graph):
    node, received = graph.nodes[0], []
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    subscription = CalibrationSubscription(node, received.append)
    node.create_publisher(CameraInfo, "camera_info", latched).publish(camera_to_msg(CAMERA, header_at(0.0)))
    assert graph.until(lambda: subscription.refresh() or received)


def test_a_calibration_of_any_publisher_is_received(graph):
    node, received = graph.nodes[0], []
    subscription = CalibrationSubscription(node, received.append)
    publisher = node.create_publisher(CameraInfo, "camera_info", QoSProfile(depth=1, reliability=BEST_EFFORT))
    info = camera_to_msg(CAMERA, header_at(1.0))
    assert graph.until(lambda: publisher.publish(info) or subscription.refresh() or received)


class RecordingLog:
    def __init__(self):
        self.lines = []

    def info(self, line):
        self.lines.append(line)


def test_a_renewed_subscription_settles_what_rclpy_logged(graph, monkeypatch):
    node, log = graph.nodes[0], RecordingLog()
    subscription = NewestSubscription(node, Image, "image", lambda m: None)
    monkeypatch.setattr(node, "get_logger", lambda: log)
    node.create_publisher(Image, "image", QoSProfile(depth=5, reliability=BEST_EFFORT))
    assert graph.until(lambda: subscription.refresh() or log.lines)
    assert log.lines == [
        "subscribed to /newest/image again as best effort and volatile, which its publishers offer: messages "
        "are received from now on"
    ]


def test_missing_messages_name_publishers_and_policies(graph):
    node = graph.nodes[0]
    other = rclpy.create_node("camera")
    graph.add(other)
    subscription = NewestSubscription(node, Image, "image", lambda m: None, "reliable")

    def wait_for(words):
        assert graph.until(lambda: words in subscription.missing_messages()), subscription.missing_messages()

    wait_for("it has no publisher; start the camera or remap the topic")
    other.create_publisher(Image, "/elsewhere", 5)
    server = rclpy.create_node("refine_server")
    graph.add(server)
    server.create_publisher(Image, "/a_result", 5)
    assert graph.until(lambda: node.count_publishers("/a_result"))
    wait_for("topics of type sensor_msgs/msg/Image: /elsewhere")
    image = other.create_publisher(Image, "/newest/image", QoSProfile(depth=5, reliability=BEST_EFFORT))
    wait_for("their quality of service does not fit this subscription (reliable, volatile)")
    other.destroy_publisher(image)
    other.create_publisher(Image, "/newest/image", 5)
    wait_for("they fit this subscription, but nothing arrives: is the sensor running?")
