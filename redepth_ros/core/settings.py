"""Settings: frozen dataclasses whose fields know their meaning, unit and range.

A class of settings derives from `Settings` and declares its fields with `setting`. It is
validated when it is made, so that whoever holds one holds a usable one; the same
declarations feed ROS parameter descriptors and the documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any

from redepth_ros.core.errors import ConfigError

__all__ = ["Setting", "Settings", "setting"]


@dataclass(frozen=True)
class Setting:
    """What is known of one field: its meaning, and which values it may take."""

    description: str
    unit: str = ""
    low: float | None = None
    """Smallest value, itself allowed."""
    high: float | None = None
    """Largest value, itself allowed."""
    choices: tuple[str, ...] = ()
    fixed: bool = False
    """Whether a change has to wait until the user of the settings is set up anew."""

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError, quoting name and value, unless the value is allowed."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} is {value}; it must be a finite number")
        too_low = self.low is not None and value < self.low
        too_high = self.high is not None and value > self.high
        if too_low or too_high:
            raise ConfigError(f"{name} is {value}; it must be {self.range_text()}")

    def range_text(self) -> str:
        """The range in words, with the unit: "from 0 to 1000 m"; empty if there is none."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"from {_digits(self.low)} to {_digits(self.high)}{unit}"
        if self.low is not None:
            return f"at least {_digits(self.low)}{unit}"
        if self.high is not None:
            return f"at most {_digits(self.high)}{unit}"
        return ""


def _digits(limit: float) -> str:
    """A limit as people write it: whole ones with every digit, which `g` would round."""
    return str(limit) if isinstance(limit, int) else f"{limit:g}"


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    fixed: bool = False,
) -> Any:
    """A dataclass field with what `Setting` holds."""
    known = Setting(description, unit, low, high, choices, fixed)
    return field(default=default, metadata={"setting": known})


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checks every field when it is made.

    Raises:
        ConfigError: a value of another type than its default's, or one that is not allowed.
    """

    def __post_init__(self) -> None:
        for one, known in self.declared():
            value, kind = getattr(self, one.name), type(one.default)
            if type(value) is not kind:
                raise ConfigError(f"{one.name} is {value!r}; it must be of type {kind.__name__}")
            known.check(one.name, value)

    @classmethod
    def declared(cls) -> Iterator[tuple[Field[Any], Setting]]:
        """Every field with what is known of it, in the order of declaration."""
        for one in fields(cls):
            yield one, one.metadata["setting"]
