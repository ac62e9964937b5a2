"""Quality of service of subscriptions and publishers."""

import types

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import HistoryPolicy, ReliabilityPolicy

from redepth_ros.ros.node.qos import CALIBRATION, GOALS, OUTPUT, REFINED, newest_only, offered_reliability

RELIABLE, BEST_EFFORT = ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT


class Node:
    """A node that sees publishers of some reliabilities on /robot/image."""

    def __init__(self, *offered):
        self.offered = offered

    def resolve_topic_name(self, topic):
        return f"/robot/{topic}"

    def get_publishers_info_by_topic(self, topic):
        assert topic == "/robot/image"
        return [
            types.SimpleNamespace(qos_profile=types.SimpleNamespace(reliability=reliability))
            for reliability in self.offered
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


def test_image_subscriptions_keep_only_the_newest_message():
    for reliability in (RELIABLE, BEST_EFFORT):
        profile = newest_only(reliability)
        assert (profile.history, profile.depth) == (HistoryPolicy.KEEP_LAST, 1)
        assert profile.reliability == reliability


def test_publishers_are_reliable_and_calibrations_are_taken_from_every_publisher():
    assert {profile.reliability for profile in (OUTPUT, REFINED, GOALS)} == {RELIABLE}
    assert CALIBRATION.reliability == BEST_EFFORT
    assert GOALS.depth >= 100
