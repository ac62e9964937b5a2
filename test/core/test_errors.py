"""One base class of all errors that the package raises on purpose."""

import inspect

import pytest

from redepth_ros.core import errors

CLASSES = [name for name in errors.__all__ if inspect.isclass(getattr(errors, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_every_error_is_a_redepth_error(name):
    assert issubclass(getattr(errors, name), errors.RedepthError)
    assert not issubclass(getattr(errors, name), (ValueError, RuntimeError)), "would be caught by accident"


@pytest.mark.parametrize(
    ("error", "reason"),
    [(errors.ModelError("no such folder"), "no such folder"), (KeyError("weights"), "KeyError: 'weights'")],
)
def test_the_reason_of_an_error_names_its_class_unless_it_was_raised_on_purpose(error, reason):
    assert errors.reason_of(error) == reason
