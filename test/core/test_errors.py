"""One base class of all errors that the package raises on purpose."""

import pytest

from redepth_ros.core import errors


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_a_redepth_error(name):
    assert issubclass(getattr(errors, name), errors.RedepthError)
    assert not issubclass(getattr(errors, name), (ValueError, RuntimeError)), "would be caught by accident"
