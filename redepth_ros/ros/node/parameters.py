"""ROS parameters that are declared from, and kept equal to, a dataclass of settings."""

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
    """The parameters of a node, as a valid object of settings.

    A value that a user gives at start and that is not allowed does not end the process: it
    is reported by `settings`, which raises, until it is set right at run time.
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
        """Declare a parameter for each field.

        Args:
            node: whose parameters they are.
            kind: class of the settings.
            is_fixed: whether fields marked as fixed can't be changed now.
            remedy: what to do to change one of them nevertheless.
            changed: called with the new settings at each change at run time; it refuses them
                by raising ConfigError.
        """
        self._is_fixed = is_fixed
        self._remedy = remedy
        self._kind = kind
        self._changed = changed
        self._values: dict[str, object] = {}
        self._wrong: dict[str, str] = {}
        for one, known in kind.declared():
            descriptor = _describe(known, one.default)
            self._values[one.name] = one.default
            try:
                value = node.declare_parameter(one.name, one.default, descriptor).value
                known.check(one.name, value)
                self._values[one.name] = value
            except ConfigError as error:
                self._wrong[one.name] = f"parameter {error}"
            except (InvalidParameterTypeException, InvalidParameterValueException) as error:
                # rclpy's own do not say what is allowed.
                allowed = known.range_text() or f"of type {type(one.default).__name__}"
                self._wrong[one.name] = f"parameter {one.name}: {error}; it must be {allowed}"
            if not node.has_parameter(one.name):
                node.declare_parameter(one.name, one.default, descriptor, ignore_override=True)
        node.add_on_set_parameters_callback(self._set)

    def settings(self) -> SettingsT:
        """The settings in force.

        Raises:
            ConfigError: a value given at start, or several together, are not allowed and were
                not set right since.
        """
        if self._wrong:
            raise ConfigError("; ".join(self._wrong.values()))
        return self._kind(**self._values)

    def _set(self, parameters: list[Parameter]) -> SetParametersResult:
        declared = {one.name: known for one, known in self._kind.declared()}
        changes = {p.name: p.value for p in parameters if p.name in declared}
        values = {**self._values, **changes}
        try:
            for name in changes:
                if declared[name].fixed and self._is_fixed() and values[name] != self._values[name]:
                    raise ConfigError(f"{name} can't be changed now: {self._remedy}")
            settings = self._kind(**values)
            if changes:
                self._changed(settings)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._values = values
        for name in changes:
            self._wrong.pop(name, None)
        return SetParametersResult(successful=True)


def _describe(known: Setting, default: object) -> ParameterDescriptor:
    """The descriptor: meaning and unit as text, and the range where there is one."""
    text = known.description
    if known.unit:
        text += f" Unit: {known.unit}."
    if known.choices:
        text += f" One of: {', '.join(known.choices)}."
    if known.fixed:
        text += " Can not be changed at run time."
    descriptor = ParameterDescriptor(description=text)
    if known.low is None and known.high is None:
        return descriptor
    if isinstance(default, float):
        low = known.low if known.low is not None else -1e300
        high = known.high if known.high is not None else 1e300
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    else:
        low = int(known.low) if known.low is not None else -LARGEST_INTEGER
        high = int(known.high) if known.high is not None else LARGEST_INTEGER
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor
