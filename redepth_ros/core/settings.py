"""Settings: frozen dataclasses whose fields carry a description, a unit and a range.

A settings class derives from `Settings` and declares its fields with `setting`. It is
validated on construction, so every instance is valid. The same declarations produce ROS
parameter descriptors, command-line options and documentation.
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
    """Description and valid values of one field."""

    description: str
    unit: str = ""
    low: float | None = None
    """Smallest valid value."""
    high: float | None = None
    """Largest valid value."""
    choices: tuple[str, ...] = ()
    fixed: bool = False
    """Whether the value is read only when its owner is configured."""

    def check(self, name: str, value: Any) -> None:
        """Raise ConfigError, quoting name and value, if the value is invalid."""
        if self.choices and value not in self.choices:
            raise ConfigError(f"{name} is {value!r}; it must be one of: {', '.join(self.choices)}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{name} is {value}; it must be a finite number")
        too_low = self.low is not None and value < self.low
        too_high = self.high is not None and value > self.high
        if too_low or too_high:
            raise ConfigError(f"{name} is {value}; it must be {self.range_text()}")

    def range_text(self) -> str:
        """Return the range with its unit, for example "from 0 to 1000 m"; empty without a range."""
        unit = f" {self.unit}" if self.unit else ""
        if self.low is not None and self.high is not None:
            return f"from {_format_limit(self.low)} to {_format_limit(self.high)}{unit}"
        if self.low is not None:
            return f"at least {_format_limit(self.low)}{unit}"
        if self.high is not None:
            return f"at most {_format_limit(self.high)}{unit}"
        return ""


def _format_limit(limit: float) -> str:
    """Format a limit; integers keep every digit, which `g` would round."""
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
    """Declare a dataclass field with its `Setting`."""
    declared = Setting(description, unit, low, high, choices, fixed)
    return field(default=default, metadata={"setting": declared})


@dataclass(frozen=True)
class Settings:
    """Base class of all settings; checks every field on construction.

    Raises:
        ConfigError: a value is invalid, or its type is not that of the default.
    """

    def __post_init__(self) -> None:
        for one, declared in self.declared():
            value, kind = getattr(self, one.name), type(one.default)
            if type(value) is not kind:
                raise ConfigError(f"{one.name} is {value!r}; it must be of type {kind.__name__}")
            declared.check(one.name, value)

    @classmethod
    def declared(cls) -> Iterator[tuple[Field[Any], Setting]]:
        """Yield every field with its `Setting`, in the order of declaration."""
        for one in fields(cls):
            yield one, one.metadata["setting"]
