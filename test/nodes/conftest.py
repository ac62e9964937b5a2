"""Fixtures of the nodes in this process, with fake networks."""

import os
from functools import partialmethod

import pytest

pytest.importorskip("rclpy")

os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"

import rclpy
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_domains import claim_domain

DOMAIN = claim_domain()
"""Not that of the tests of the real graph: rclpy keeps the services of a destroyed node until the last
reference to it is gone, and such a service is found by the clients of that graph, but not answered."""


@pytest.fixture(scope="package")
def ros():
    rclpy.init(domain_id=DOMAIN)
    yield
    rclpy.shutdown()


@pytest.fixture
def given(monkeypatch):
    """Give parameters to all nodes that are made from now on, as a command line does."""

    def given(**values):
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        monkeypatch.setattr(Node, "__init__", partialmethod(Node.__init__, parameter_overrides=parameters))

    return given


@pytest.fixture
def set_parameters():
    """Set parameters of a node in this process, all or none; return (successful, reason)."""

    def set_parameters(node, **values):
        parameters = [Parameter(name, value=value) for name, value in values.items()]
        result = node.set_parameters_atomically(parameters)
        return result.successful, result.reason

    return set_parameters
