"""Values pass through the command line of a node unchanged."""

import pytest

pytest.importorskip("rclpy")

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from redepth_ros.ros.parameter_arguments import parameter_arguments


@pytest.mark.parametrize(
    "value",
    ["/a # b", "/a: b", "/no 'quotes'", '"', "{}", "123", "true", "", "k\u00fcche \u6df1", True, 7, 0.5],
)
def test_values_arrive_as_they_are(value):
    context = Context()
    rclpy.init(args=["--ros-args", *parameter_arguments({"given": value})], context=context)
    try:
        node = Node("reader", context=context, automatically_declare_parameters_from_overrides=True)
        found = node.get_parameter("given").value
        assert (type(found), found) == (type(value), value)
    finally:
        rclpy.shutdown(context=context)
