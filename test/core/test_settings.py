"""Settings are valid, or they are not made."""

from dataclasses import dataclass, replace

import pytest

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.settings import Setting, Settings, setting


@dataclass(frozen=True)
class Example(Settings):
    gain: float = setting(1.0, "Gain.", unit="m", low=0.5, high=2.0)
    count: int = setting(3, "Count.", low=1, fixed=True)
    kind: str = setting("a", "Kind.", choices=("a", "b"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gain": 3.0}, "gain is 3.0; it must be from 0.5 to 2 m"),
        ({"gain": 0.4}, "gain is 0.4; it must be from 0.5 to 2 m"),
        ({"gain": float("nan")}, "gain is nan; it must be a finite number"),
        ({"gain": 1}, "gain is 1; it must be of type float"),
        ({"count": 0}, "count is 0; it must be at least 1"),
        ({"count": True}, "count is True; it must be of type int"),
        ({"kind": "c"}, "kind is 'c'; it must be one of: a, b"),
    ],
)
def test_an_invalid_value_is_quoted_with_the_valid_ones(change, message):
    with pytest.raises(ConfigError) as caught:
        replace(Example(), **change)
    assert str(caught.value) == message


def test_limits_are_valid_themselves():
    assert replace(Example(), gain=2.0, count=1).gain == 2.0
    assert replace(Example(), gain=0.5).gain == 0.5


def test_declared_yields_the_fields_in_order():
    declared = [(one.name, declared) for one, declared in Example.declared()]
    assert [name for name, _ in declared] == ["gain", "count", "kind"]
    assert declared[0][1] == Setting("Gain.", "m", 0.5, 2.0)
    assert declared[1][1].fixed
    assert declared[2][1].choices == ("a", "b")


def test_integer_limits_are_written_with_every_digit():
    assert Setting("Seed.", low=0, high=2**31 - 1).range_text() == "from 0 to 2147483647"
    assert Setting("Count.", high=1_000_000).range_text() == "at most 1000000"
    assert Setting("Gain.", low=1e-6, unit="m").range_text() == "at least 1e-06 m"
    assert Setting("Name.").range_text() == ""
