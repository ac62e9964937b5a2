"""ROS parameters that are declared from a dataclass of settings and kept equal to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from redepth_ros.core.errors import ConfigError
from redepth_ros.core.settings import Setting, Settings

__all__ = ["Parameters"]

SettingsT = TypeVar("SettingsT", bound=Settings)

LARGEST_INTEGER = 2**31 - 1


class Parameters(Generic[SettingsT]):
    """Declare one parameter for each field of a settings class, and validate every change.

    An invalid value at start does not end the process: `settings` raises until a valid one is
    set at run time. An integer is accepted for a floating-point parameter (`max_depth: 20`).

    Args:
        node: node that owns the parameters.
        kind: settings class.
        is_fixed: returns whether fields marked as fixed can't be changed now.
        remedy: how to change a fixed field nevertheless, for the error message.
        changed: called with the new settings at each change at run time; it may raise
            ConfigError to reject them.
    """

    def __init__(
        self,
        node: Node,
        kind: type[SettingsT],
        *,
        is_fixed: Callable[[], bool],
        remedy: str,
        changed: Callable[[SettingsT], None],
    ) -> None:
        self._node = node
        self._kind = kind
        self._is_fixed = is_fixed
        self._remedy = remedy
        self._changed = changed
        self._declared = {one.name: (setting, one.default) for one, setting in kind.declared()}
        self._values: dict[str, object] = {name: default for name, (_, default) in self._declared.items()}
        self._invalid: dict[str, str] = {}
        for name in self._declared:
            self._declare(name)
        node.add_on_set_parameters_callback(self._set)
        if hasattr(node, "add_pre_set_parameters_callback"):  # from Jazzy on
            node.add_pre_set_parameters_callback(self._convert_integers)

    def settings(self) -> SettingsT:
        """Return the current settings.

        Raises:
            ConfigError: a value given at start, or a combination of values, is invalid and was
                not corrected since.
        """
        if self._invalid:
            raise ConfigError("; ".join(self._invalid.values()))
        return self._kind(**self._values)

    def _declare(self, name: str) -> None:
        """Declare a parameter; an invalid value given at start is recorded and its default declared."""
        setting, default = self._declared[name]
        descriptor = _descriptor(setting, default)
        try:
            value = self._node.declare_parameter(name, default, descriptor).value
        except (InvalidParameterTypeException, InvalidParameterValueException):
            value = self._given(name)
            if isinstance(default, float) and type(value) is int:
                value = float(value)
        try:
            _check(setting, name, value, default)
            self._values[name] = value
        except ConfigError as error:
            self._invalid[name] = f"parameter {error}"
        if not self._node.has_parameter(name):
            self._node.declare_parameter(name, self._values[name], descriptor, ignore_override=True)

    def _given(self, name: str) -> object:
        """Return the value that the user gave at start for a parameter which is not yet declared."""
        value = self._node.declare_parameter(name, None, ParameterDescriptor(dynamic_typing=True)).value
        self._node.undeclare_parameter(name)
        return value

    def _convert_integers(self, parameters: list[Parameter]) -> list[Parameter]:
        """Convert integers for floating-point parameters, before rclpy rejects them by their type."""
        return [
            Parameter(p.name, value=float(p.value))
            if type(p.value) is int and isinstance(self._values.get(p.name), float)
            else p
            for p in parameters
        ]

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        changes = {p.name: p.value for p in parameters if p.name in self._declared}
        values = {**self._values, **changes}
        try:
            for name in changes:
                fixed = self._declared[name][0].fixed
                if fixed and self._is_fixed() and values[name] != self._values[name]:
                    raise ConfigError(f"{name} can't be changed now: {self._remedy}")
            settings = self._kind(**values)
            if changes:
                self._changed(settings)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        for name in changes:
            self._invalid.pop(name, None)
        return SetParametersResult(successful=True)


def _check(setting: Setting, name: str, value: object, default: object) -> None:
    """Raise ConfigError unless a value has the type of the default and is in the range."""
    kind = type(default)
    if type(value) is not kind and not setting.choices:
        wanted = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}[kind]
        allowed = " ".join(filter(None, (wanted, setting.range_text())))
        raise ConfigError(f"{name} is {value!r}; it must be {allowed}")
    setting.check(name, value)


def _descriptor(setting: Setting, default: object) -> ParameterDescriptor:
    """Return the descriptor of a parameter: meaning and unit as text, and its range if it has one."""
    text = setting.description
    if setting.unit:
        text += f" Unit: {setting.unit}."
    if setting.choices:
        text += f" One of: {', '.join(setting.choices)}."
    if setting.fixed:
        text += " Can't be changed at run time."
    descriptor = ParameterDescriptor(description=text)
    if setting.low is None and setting.high is None:
        return descriptor
    if isinstance(default, float):
        low = setting.low if setting.low is not None else -1e300
        high = setting.high if setting.high is not None else 1e300
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    else:
        low = int(setting.low) if setting.low is not None else -LARGEST_INTEGER
        high = int(setting.high) if setting.high is not None else LARGEST_INTEGER
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor
