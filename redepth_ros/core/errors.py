"""The errors that this package raises on purpose.

Each message quotes the value that was refused and names the remedy, so that it can be
shown to a person as it is.
"""

__all__ = ["AnchorError", "ConfigError", "ImageError", "ModelError", "RedepthError"]


class RedepthError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(RedepthError):
    """A parameter or a calibration has a value that can't be used."""


class ImageError(RedepthError):
    """An image can't be used: its encoding, size or data."""


class ModelError(RedepthError):
    """A network can't be loaded, or it is not what it was said to be."""


class AnchorError(RedepthError):
    """Measured depth can't be used, or does not say what the scale is."""
