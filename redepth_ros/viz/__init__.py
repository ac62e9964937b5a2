"""Colour maps and figures; imports nothing of this package but core."""
