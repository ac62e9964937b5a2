"""The protocols of network and prior, which the fakes of these tests follow."""

import inspect

import pytest
from fakes_core import FakeDepthNetwork, FakePrior

from redepth_ros.core.refine.networks import DepthNetwork, Prior


@pytest.mark.parametrize(("protocol", "fake"), [(DepthNetwork, FakeDepthNetwork), (Prior, FakePrior)])
def test_fakes_follow_the_protocols(protocol, fake):
    methods = [name for name, one in vars(protocol).items() if inspect.isfunction(one) and name[0] != "_"]
    assert methods
    for name in methods:
        expected, found = (inspect.signature(getattr(one, name)).parameters for one in (protocol, fake))
        assert list(found) == list(expected), name
