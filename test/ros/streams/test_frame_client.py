"""Fetching of frames, against a service in this process."""

from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("rclpy")

import rclpy
from fakes import Graph, header_at, image_at
from redepth_interfaces.srv import GetFrame

from redepth_ros.core.errors import ConfigError
from redepth_ros.ros.streams import frame_client
from redepth_ros.ros.streams.frame_client import FrameClient

STAMP = header_at(12.5).stamp


@pytest.fixture
def graph(ros):
    graph = Graph(rclpy.create_node("frames", namespace="/frames"))
    yield graph
    graph.close()


@pytest.fixture
def fetch(graph):
    """Fetch in another thread while this one spins."""
    client, thread = FrameClient(graph.nodes[0]), ThreadPoolExecutor(1)

    def fetch(stop_reason=lambda: ""):
        future = thread.submit(client.fetch, STAMP, stop_reason)
        assert graph.until(future.done)
        return future.result()

    yield fetch
    thread.shutdown()


def serve(graph, success=True):
    def respond(request, response):
        response.success, response.message = success, "no frame: ask sooner"
        response.image = image_at(request.stamp.sec)
        return response

    graph.nodes[0].create_service(GetFrame, "get_frame", respond)


def test_fetch_returns_the_frame_of_the_stamp(graph, fetch):
    serve(graph)
    assert fetch().image.header.stamp.sec == 12


def test_fetch_raises_the_reason_of_the_service(graph, fetch):
    serve(graph, success=False)
    with pytest.raises(ConfigError, match="no frame: ask sooner"):
        fetch()


def test_fetch_names_the_missing_service(fetch, monkeypatch):
    monkeypatch.setattr(frame_client, "TIMEOUT", 0.2)
    with pytest.raises(ConfigError, match=r"stamp 12\.500000000, and there is no service /frames/get_frame"):
        fetch()


def test_fetch_waits_no_longer_than_the_timeout_for_a_response(graph, monkeypatch):
    serve(graph)
    client = FrameClient(graph.nodes[0])
    assert graph.until(client._client.service_is_ready)
    monkeypatch.setattr(frame_client, "TIMEOUT", 0.2)
    with pytest.raises(
        ConfigError, match=r"/frames/get_frame returned no frame of stamp 12\.5.* within 0\.2 s"
    ):
        client.fetch(STAMP, lambda: "")  # nobody spins


def test_fetch_ends_with_the_stop_reason(fetch):
    with pytest.raises(ConfigError, match="had not arrived yet: cancelled"):
        fetch(lambda: "cancelled")
