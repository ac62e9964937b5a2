"""Why a subscription receives nothing, from what the ROS graph knows about its publishers."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

__all__ = ["missing_messages"]

OWN_NODES = ("redepth_node", "refine_server")
"""Nodes whose topics are results, and no input."""
MAX_NAMES = 5
"""Largest number of publishers or topics that a message names."""


def missing_messages(node: Node, topic: str, kind: type, profile: QoSProfile) -> str:
    """Return why a subscription receives nothing, and the remedy.

    Args:
        node: owner of the subscription.
        topic: full name.
        kind: message type of the subscription.
        profile: of the subscription.
    """
    wanted = _type_name(kind)
    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        others = _topics_of_type(node, wanted)
        found = f"; topics of type {wanted}: {', '.join(others)}" if others else ""
        return f"it has no publisher; start the camera or remap the topic{found}"
    described = [f"{_name(p)} ({p.topic_type}, {_policies(p.qos_profile)})" for p in publishers[:MAX_NAMES]]
    text = f"publishers: {', '.join(described)}"
    fitting = [p for p in publishers if p.topic_type == wanted]
    if not fitting:
        return f"{text}; none has the type {wanted} of this subscription"
    checks = [qos_check_compatible(p.qos_profile, profile) for p in fitting]
    if all(compatibility == QoSCompatibility.ERROR for compatibility, _ in checks):
        return f"{text}; their quality of service does not fit this subscription ({_policies(profile)})"
    return f"{text}; they fit this subscription, but nothing arrives: is the sensor running?"


def _type_name(kind: Any) -> str:
    package, folder, _ = kind.__module__.split(".", 2)
    return f"{package}/{folder}/{kind.__name__}"


def _topics_of_type(node: Node, wanted: str) -> list[str]:
    """Return the topics of a type that nodes of other packages publish."""
    names = []
    for name, types in node.get_topic_names_and_types():
        publishers = node.get_publishers_info_by_topic(name) if wanted in types else []
        if any(publisher.node_name not in (node.get_name(), *OWN_NODES) for publisher in publishers):
            names.append(name)
    return names[:MAX_NAMES]


def _name(publisher: Any) -> str:
    return f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name}"


def _policies(profile: QoSProfile) -> str:
    policies = (profile.reliability.name, profile.durability.name)
    return ", ".join(name.lower().replace("_", " ") for name in policies)
