"""A client of the service `get_frame`."""

from __future__ import annotations

import time
from collections.abc import Callable

import rclpy.task
from builtin_interfaces.msg import Time
from rclpy.node import Node
from redepth_interfaces.srv import GetFrame

from redepth_ros.core.errors import ConfigError

__all__ = ["FrameClient"]

TIMEOUT = 3.0
"""Seconds within which redepth_node must respond."""
POLL_PERIOD = 0.05
"""Seconds."""


class FrameClient:
    """Fetches frames of redepth_node by their stamps, from another thread than the executor's."""

    def __init__(self, node: Node) -> None:
        """Args:
        node: owner of the client; its executor handles responses.
        """
        self._client = node.create_client(GetFrame, "get_frame")
        self._service = node.resolve_service_name("get_frame")

    def fetch(self, stamp: Time, stop_reason: Callable[[], str]) -> GetFrame.Response:
        """Return the frame of a stamp; zero for the newest one.

        Args:
            stamp: of the frame.
            stop_reason: why the call should end; empty while it may go on.

        Raises:
            ConfigError: there is no such frame, no service, no response in time, or a stop reason.
        """
        text = f"{stamp.sec}.{stamp.nanosec:09d}"
        future: rclpy.task.Future | None = None
        deadline = time.monotonic() + TIMEOUT
        while not stop_reason() and time.monotonic() < deadline:
            if future is None:
                if self._client.service_is_ready():
                    future = self._client.call_async(GetFrame.Request(stamp=stamp))
            elif future.done():
                response: GetFrame.Response = future.result()
                if not response.success:
                    raise ConfigError(response.message)
                return response
            time.sleep(POLL_PERIOD)
        if future is not None:
            self._client.remove_pending_request(future)
        if reason := stop_reason():
            raise ConfigError(f"the frame of stamp {text} had not arrived yet: {reason}")
        if future is not None:
            raise ConfigError(f"{self._service} returned no frame of stamp {text} within {TIMEOUT:g} s")
        raise ConfigError(
            f"the goal has no image but the stamp {text}, and there is no service {self._service}: send the "
            "image, or start redepth_node in this namespace"
        )
