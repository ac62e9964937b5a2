"""Why a subscription receives nothing; with real publishers in test_subscription.py."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image

from redepth_ros.ros.node.publishers import missing_messages


def test_publishers_of_another_type_are_named():
    publisher = SimpleNamespace(
        node_name="camera",
        node_namespace="/front",
        topic_type="sensor_msgs/msg/CompressedImage",
        qos_profile=QoSProfile(depth=1),
    )
    node = SimpleNamespace(get_publishers_info_by_topic=lambda topic: [publisher])
    assert missing_messages(node, "/image", Image, QoSProfile(depth=1)) == (
        "publishers: /front/camera (sensor_msgs/msg/CompressedImage, reliable, volatile); none has the type "
        "sensor_msgs/msg/Image of this subscription"
    )
