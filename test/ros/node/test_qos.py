"""Quality of service of subscriptions and publishers."""

import types

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import DurabilityPolicy, HistoryPolicy, ReliabilityPolicy

from redepth_ros.ros.node.qos import (
    GOALS,
    OUTPUT,
    REFINED,
    calibration,
    newest_only,
    offered_durability,
    offered_reliability,
)

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT
VOLATILE, LATCHED = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL


class Node:
    """A node that sees publishers of some reliabilities on /robot/image."""

    def __init__(self, *offered, durabilities=()):
        self.offered = [(reliability, VOLATILE) for reliability in offered] + list(durabilities)

    def resolve_topic_name(self, topic):
        return f"/robot/{topic}"

    def get_publishers_info_by_topic(self, topic):
        assert topic == "/robot/image"
        return [
            types.SimpleNamespace(
                qos_profile=types.SimpleNamespace(reliability=reliability, durability=durability)
            )
            for reliability, durability in self.offered
        ]


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ([], RELIABLE),
        ([RELIABLE], RELIABLE),
        ([BEST_EFFORT], BEST_EFFORT),
        ([RELIABLE, BEST_EFFORT], BEST_EFFORT),
    ],
)
def test_offered_reliability_is_what_every_publisher_offers(offered, expected):
    assert offered_reliability(Node(*offered), "image") == expected


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        ([], VOLATILE),
        ([(RELIABLE, LATCHED)], LATCHED),
        ([(BEST_EFFORT, LATCHED)], VOLATILE),
        ([(RELIABLE, LATCHED), (RELIABLE, VOLATILE)], VOLATILE),
    ],
)
def test_offered_durability_is_what_every_publisher_offers(offered, expected):
    assert offered_durability(Node(durabilities=offered), "image") == expected


def test_image_subscriptions_keep_only_the_newest_message():
    for reliability in (RELIABLE, BEST_EFFORT):
        profile = newest_only(reliability)
        assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, 1)
        assert profile.reliability == reliability


def test_publishers_are_reliable_and_calibrations_are_taken_from_every_publisher():
    assert {profile.reliability for profile in (OUTPUT, REFINED, GOALS)} == {RELIABLE}
    assert calibration(VOLATILE).reliability == BEST_EFFORT
    assert (calibration(LATCHED).reliability, calibration(LATCHED).durability) == (RELIABLE, LATCHED)
    assert GOALS.depth >= 100
