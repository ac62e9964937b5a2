"""A subscription whose reliability matches the publishers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription

from redepth_ros.ros.node.qos import newest_only, offered_reliability

__all__ = ["NewestSubscription"]


class NewestSubscription:
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
        self._node, self._kind, self._topic, self._callback = node, kind, topic, callback
        self._reliability = reliability
        self._subscription: Subscription | None = None
        self.refresh()

    @property
    def topic(self) -> str:
        """Full name of the topic."""
        return str(self._node.resolve_topic_name(self._topic))

    def refresh(self) -> None:
        """Subscribe again if the publishers now offer another reliability; call it about once a second."""
        if self._reliability == "auto":
            reliability = offered_reliability(self._node, self._topic)
        else:
            reliability = ReliabilityPolicy[self._reliability.upper()]
        if self._subscription is not None:
            if self._subscription.qos_profile.reliability == reliability:
                return
            self._node.destroy_subscription(self._subscription)
        self._subscription = self._node.create_subscription(
            self._kind, self._topic, self._callback, newest_only(reliability)
        )

    def destroy(self) -> None:
        """Unsubscribe."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._subscription = None
