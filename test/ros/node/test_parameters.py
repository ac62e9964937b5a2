"""Parameters are declared from settings, validated, and adopted."""

from dataclasses import dataclass

import pytest

pytest.importorskip("rclpy")

from rclpy.node import Node
from rclpy.parameter import Parameter

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.settings import Settings, setting
from redepth_ros.ros.node.parameters import Parameters


@dataclass(frozen=True)
class Example(Settings):
    """Settings of every type."""

    near: float = setting(0.0, "Smallest depth.", unit="m", low=0.0, high=500.0)
    far: float = setting(100.0, "Largest depth.", unit="m", low=0.001, high=500.0)
    size: int = setting(0, "Longer side; 0 is the model's own.", unit="pixels", low=0, high=4096)
    transport: str = setting("raw", "Topic.", choices=("raw", "compressed"))
    device: str = setting("auto", "Device of the networks.", fixed=True)
    loop: bool = setting(True, "Whether to repeat.")

    def __post_init__(self):
        super().__post_init__()
        if self.near >= self.far:
            raise ConfigError(f"near is {self.near} m and far {self.far} m")


class Declared:
    """Parameters of a node that is started with some values."""

    def __init__(self, changed=None, fixed=False, **given):
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = Node("parameters", parameter_overrides=overrides)
        self.adopted = []
        self.parameters = Parameters(
            self.node,
            Example,
            is_fixed=lambda: fixed,
            remedy="restart",
            changed=changed or self.adopted.append,
        )

    def set(self, **values):
        """Set parameters together and return the result."""
        return self.node.set_parameters_atomically([Parameter(*item) for item in _typed(values)])


def _typed(values):
    return [(name, Parameter.Type.from_parameter_value(value), value) for name, value in values.items()]


@pytest.fixture
def declare(ros):
    made = []

    def make(*args, **given):
        made.append(Declared(*args, **given))
        return made[-1]

    yield make
    for declared in made:
        declared.node.destroy_node()


def test_parameters_have_the_defaults_and_descriptions_of_the_settings(declare):
    declared = declare()
    assert declared.parameters.settings() == Example()
    size = declared.node.describe_parameter("size")
    assert size.description == "Longer side; 0 is the model's own. Unit: pixels."
    assert (size.integer_range[0].from_value, size.integer_range[0].to_value) == (0, 4096)
    far = declared.node.describe_parameter("far").floating_point_range[0]
    assert (far.from_value, far.to_value) == (0.001, 500.0)
    assert declared.node.describe_parameter("transport").description == "Topic. One of: raw, compressed."
    assert declared.node.describe_parameter("device").description.endswith("Can't be changed at run time.")


def test_values_given_at_start_are_adopted(declare):
    declared = declare(far=20.0, transport="compressed", loop=False)
    assert declared.parameters.settings() == Example(far=20.0, transport="compressed", loop=False)


def test_integers_are_accepted_for_floating_point_parameters_at_start_and_at_run_time(declare):
    declared = declare(far=20)
    assert declared.parameters.settings().far == 20.0
    assert declared.node.get_parameter("far").type_ == Parameter.Type.DOUBLE
    if not hasattr(declared.node, "add_pre_set_parameters_callback"):
        pytest.skip("this rclpy rejects integers at run time")
    assert declared.set(far=30).successful
    assert declared.adopted == [Example(far=30.0)]
    assert declared.node.get_parameter("far").type_ == Parameter.Type.DOUBLE


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"transport": "x"}, "parameter transport is 'x'; it must be one of: raw, compressed"),
        ({"size": 64.5}, "parameter size is 64.5; it must be an integer from 0 to 4096 pixels"),
        ({"size": 5000}, "parameter size is 5000; it must be from 0 to 4096 pixels"),
        ({"far": 600}, "parameter far is 600.0; it must be from 0.001 to 500 m"),
        ({"far": "wide"}, "parameter far is 'wide'; it must be a number from 0.001 to 500 m"),
        ({"far": True}, "parameter far is True; it must be a number from 0.001 to 500 m"),
        ({"far": float("nan")}, "parameter far is nan; it must be a finite number"),
        ({"device": 3}, "parameter device is 3; it must be a string"),
        ({"loop": "yes"}, "parameter loop is 'yes'; it must be true or false"),
    ],
)
def test_an_invalid_value_at_start_is_reported_until_it_is_corrected(declare, given, message):
    declared = declare(**given)
    with pytest.raises(ConfigError) as caught:
        declared.parameters.settings()
    assert str(caught.value) == message
    (name,) = given
    assert declared.set(**{name: getattr(Example(), name)}).successful
    assert declared.parameters.settings() == Example()


def test_all_invalid_values_are_reported_together(declare):
    with pytest.raises(ConfigError, match=r"parameter size is -1; .*; parameter device is 3; "):
        declare(size=-1, device=3).parameters.settings()


def test_values_that_contradict_each_other_are_reported_until_they_are_corrected(declare):
    declared = declare(near=200.0)
    with pytest.raises(ConfigError, match=r"near is 200\.0 m and far 100\.0 m"):
        declared.parameters.settings()
    assert not declared.set(far=150.0).successful
    assert declared.set(far=300.0).successful
    assert declared.parameters.settings().far == 300.0
    assert declared.adopted == [declared.parameters.settings()]


def test_a_change_that_its_user_rejects_is_not_made(declare):
    def reject(settings):
        raise ConfigError("not now")

    declared = declare(changed=reject)
    result = declared.set(far=300.0)
    assert (result.successful, result.reason) == (False, "not now")
    assert declared.parameters.settings() == Example()


def test_fixed_parameters_change_only_when_they_may(declare):
    result = declare(fixed=True).set(device="cpu")
    assert (result.successful, result.reason) == (False, "device can't be changed now: restart")
    assert declare(fixed=True).set(device="auto", far=20.0).successful  # not a change
    assert declare().set(device="cpu").successful


def test_parameters_of_others_are_left_alone(declare):
    declared = declare()
    declared.node.declare_parameter("other", 1)
    assert declared.set(other=2).successful
    assert declared.adopted == []
