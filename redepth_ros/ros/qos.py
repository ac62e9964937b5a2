"""Qualities of service: why each stream has the one it has."""

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

__all__ = ["CALIBRATION", "GOALS", "OUTPUT", "REFINED", "newest_only", "offered_reliability"]

CALIBRATION = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""For camera_info: matches every publisher, small enough to keep some."""

OUTPUT = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""For what this package publishes: seen by reliable and best-effort subscribers alike."""

REFINED = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""For refined keyframes: few, dear, and each of them wanted."""

GOALS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.VOLATILE,
)
"""For the services of the action: with the default depth of 10, a burst of goals loses some
before anybody can judge them."""


def newest_only(reliability: ReliabilityPolicy) -> QoSProfile:
    """For images: the middleware keeps one, the newest."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy:
    """The strongest reliability that every publisher of a topic meets; reliable without any.

    A frame of some hundred kilobytes travels in many fragments, and best effort loses the
    frame with any of them: with Fast DDS' defaults that is most frames of 640 x 480.
    """
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    if any(p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE
