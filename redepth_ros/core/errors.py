"""Errors that this package raises on purpose.

Each message quotes the rejected value and names the remedy, so that it can be shown to a
user unchanged.
"""

__all__ = [
    "AnchorError",
    "ConfigError",
    "ImageError",
    "ModelError",
    "OutOfMemory",
    "RedepthError",
    "reason_of",
]


class RedepthError(Exception):
    """Base class of all errors that this package raises on purpose."""


class ConfigError(RedepthError):
    """A parameter or a calibration has an invalid value."""


class ImageError(RedepthError):
    """An image has an invalid encoding, size or content."""


class ModelError(RedepthError):
    """A network can't be loaded or is not of the expected kind."""


class AnchorError(RedepthError):
    """Measured depth is invalid or does not determine the scale."""


class OutOfMemory(RedepthError):  # noqa: N818
    """The memory of the CPU or the GPU does not suffice."""


def reason_of(error: Exception) -> str:
    """Return the message of an error, after the name of its class unless it was raised on purpose."""
    return str(error) if isinstance(error, RedepthError) else f"{type(error).__name__}: {error}"
