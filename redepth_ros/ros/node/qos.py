"""Qualities of service: why each stream has the one it has."""

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
"""For camera_info: matches every publisher, small enough to keep some."""

OUTPUT = _keep_last(5, ReliabilityPolicy.RELIABLE)
"""For what this package publishes: seen by reliable and best-effort subscribers alike."""

REFINED = _keep_last(10, ReliabilityPolicy.RELIABLE)
"""For refined keyframes: few, dear, and each of them wanted."""

GOALS = _keep_last(100, ReliabilityPolicy.RELIABLE)
"""For the services of the action: with the default depth of 10, a burst of goals loses some
before anybody can judge them."""


def newest_only(reliability: ReliabilityPolicy) -> QoSProfile:
    """For images: the middleware keeps one, the newest."""
    return _keep_last(1, reliability)


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy:
    """The strongest reliability that every publisher of a topic meets; reliable without any.

    A frame of some hundred kilobytes travels in many fragments, and best effort loses the
    frame with any of them: with Fast DDS' defaults that is most frames of 640 x 480.
    """
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    if any(p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE
