"""Quality of service of each kind of topic, and the reason for it."""

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

__all__ = [
    "CALIBRATION_DEPTH",
    "GOALS",
    "OUTPUT",
    "REFINED",
    "calibration",
    "newest_only",
    "offered_durability",
    "offered_reliability",
]


def _keep_last(
    depth: int, reliability: ReliabilityPolicy, durability: DurabilityPolicy = DurabilityPolicy.VOLATILE
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability
    )


CALIBRATION_DEPTH = 3
"""Queue of camera_info subscriptions, and messages that are taken at once."""

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


def calibration(durability: DurabilityPolicy) -> QoSProfile:
    """Return the profile of camera_info subscriptions.

    The queue is short: from a camera that is faster than messages are taken, it holds the last ones.

    Args:
        durability: VOLATILE is compatible with every publisher; TRANSIENT_LOCAL also receives what was
            published before.
    """
    latched = durability == DurabilityPolicy.TRANSIENT_LOCAL
    return _keep_last(
        CALIBRATION_DEPTH,
        ReliabilityPolicy.RELIABLE if latched else ReliabilityPolicy.BEST_EFFORT,
        durability,
    )


def offered_durability(node: Node, topic: str) -> DurabilityPolicy:
    """Return TRANSIENT_LOCAL if all publishers of a topic offer it reliably, VOLATILE otherwise."""
    profiles = [p.qos_profile for p in node.get_publishers_info_by_topic(node.resolve_topic_name(topic))]
    latched = all(
        profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        and profile.reliability == ReliabilityPolicy.RELIABLE
        for profile in profiles
    )
    return DurabilityPolicy.TRANSIENT_LOCAL if profiles and latched else DurabilityPolicy.VOLATILE


def offered_reliability(node: Node, topic: str) -> ReliabilityPolicy:
    """Return the strongest reliability that every publisher of a topic offers; RELIABLE without any.

    A frame of some hundred kilobytes travels in many fragments, and best effort loses the
    frame with any of them: with Fast DDS' defaults, most frames of 640 x 480 are lost.
    """
    publishers = node.get_publishers_info_by_topic(node.resolve_topic_name(topic))
    if any(p.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT for p in publishers):
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE
