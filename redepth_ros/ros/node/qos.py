"""Quality of service of each kind of topic, and the reason for it."""

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

__all__ = ["CALIBRATION", "GOALS", "OUTPUT", "REFINED", "newest_only", "offered_reliability"]


def _keep_last(depth: int, reliability: ReliabilityPolicy) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


CALIBRATION = _keep_last(10, ReliabilityPolicy.BEST_EFFORT)
"""For camera_info subscriptions: compatible with every publisher; the messages are small enough to queue."""

OUTPUT = _keep_last(5, ReliabilityPolicy.RELIABLE)
"""For the topics that this package publishes: compatible with reliable and best-effort subscriptions."""

REFINED = _keep_last(10, ReliabilityPolicy.RELIABLE)
"""For refined keyframes: few and expensive; none may be lost."""

GOALS = _keep_last(100, ReliabilityPolicy.RELIABLE)
"""For the services of the action: the default depth of 10 loses goals of a burst before they are
accepted or rejected."""


def newest_only(reliability: ReliabilityPolicy) -> QoSProfile:
    """Return the profile of image subscriptions: the middleware keeps only the newest message."""
    return _keep_last(1, reliability)


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy:
    """Return the strongest reliability that every publisher of a topic offers; RELIABLE without any.

    A frame of some hundred kilobytes travels in many fragments, and best effort loses the
    frame with any of them: with Fast DDS' defaults, most frames of 640 x 480 are lost.
    """
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    if any(p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE
