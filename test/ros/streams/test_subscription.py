"""The reliability of an image subscription."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import Graph, image_at
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from redepth_ros.ros.streams.subscription import NewestSubscription

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
