"""Subscriptions whose quality of service follows the publishers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import CameraInfo

from redepth_ros.ros.node.publishers import missing_messages
from redepth_ros.ros.node.qos import (
    CALIBRATION_DEPTH,
    calibration,
    newest_only,
    offered_durability,
    offered_reliability,
)
from redepth_ros.ros.streams.take_gate import TakeGate

__all__ = ["CalibrationSubscription", "NewestSubscription"]

IMAGE_BURST = 2
"""Images taken per period of the gate: up to 200 per second."""


class _AdaptiveSubscription:
    """Subscribes again when its publishers offer another quality of service."""

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], burst: int
    ) -> None:
        """Args:
        node: owner of the subscription.
        kind: message type.
        topic: relative name.
        callback: called with each message that is taken.
        burst: of the `TakeGate`.
        """
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._gate = TakeGate(node, burst)
        self._profile = self._wanted_profile()
        self._subscription: Subscription | None = self._subscribe()

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return str(self._node.resolve_topic_name(self._topic))

    def refresh(self) -> None:
        """Subscribe again if the publishers now offer other policies; call it about once a second."""
        profile = self._wanted_profile()
        if profile == self._profile and self._subscription is not None:
            return
        self._unsubscribe()
        self._profile = profile
        self._subscription = self._subscribe()
        names = (profile.reliability.name, profile.durability.name)
        policies = " and ".join(name.lower().replace("_", " ") for name in names)
        # rclpy may have logged that no messages will be received: this line settles it.
        self._node.get_logger().info(
            f"subscribed to {self.topic} again as {policies}, which its publishers offer: messages are "
            "received from now on"
        )

    def missing_messages(self) -> str:
        """Return why nothing is received, and the remedy."""
        return missing_messages(self._node, self.topic, self._kind, self._profile)

    def destroy(self) -> None:
        """Unsubscribe."""
        self._unsubscribe()
        self._gate.destroy()

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def _subscribe(self) -> Subscription:
        return self._node.create_subscription(
            self._kind, self._topic, self._receive, self._profile, callback_group=self._gate
        )

    def _receive(self, message: Any) -> None:
        self._gate.took()
        self._callback(message)

    def _wanted_profile(self) -> QoSProfile:
        raise NotImplementedError


class NewestSubscription(_AdaptiveSubscription):
    """Receives the newest message of a topic, with a given reliability or with the offered one."""

    def __init__(
        self, node: Node, kind: type, topic: str, callback: Callable[[Any], None], reliability: str = "auto"
    ) -> None:
        """Args:
        node: owner of the subscription.
        kind: message type.
        topic: relative name.
        callback: called with each message.
        reliability: auto, best_effort or reliable; auto is reliable unless a publisher offers
            best effort only.
        """
        self._reliability = reliability
        super().__init__(node, kind, topic, callback, IMAGE_BURST)

    def _wanted_profile(self) -> QoSProfile:
        if self._reliability == "auto":
            return newest_only(offered_reliability(self._node, self._topic))
        return newest_only(ReliabilityPolicy[self._reliability.upper()])


class CalibrationSubscription(_AdaptiveSubscription):
    """Receives camera_info, also from drivers that publish it once, before this node subscribes."""

    def __init__(self, node: Node, callback: Callable[[CameraInfo], None]) -> None:
        """Args:
        node: owner of the subscription.
        callback: called with each message.
        """
        super().__init__(node, CameraInfo, "camera_info", callback, CALIBRATION_DEPTH)

    def _wanted_profile(self) -> QoSProfile:
        return calibration(offered_durability(self._node, self._topic))
