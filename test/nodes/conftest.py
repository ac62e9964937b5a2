"""Fixtures of the nodes in this process, with fake networks."""

import os

import pytest

pytest.importorskip("rclpy")

# Runs of this suite on one machine do not meet, nor other ROS 2 systems on the network.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import rclpy
from rclpy.parameter import Parameter


@pytest.fixture(scope="session")
def ros():
    if not rclpy.ok():
        rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def set_parameters():
    """Set parameters of a node in this process, all or none; return (successful, reason)."""

    def set_parameters(node, **values):
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        result = node.set_parameters_atomically(parameters)
        return result.successful, result.reason

    return set_parameters
