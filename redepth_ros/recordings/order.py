"""Natural order of names, and times that names give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["natural_key", "stamps_from_names"]

NANOSECONDS = 10**9
FIRST_YEAR = 10**8
"""Seconds since 1970 from which on a number in a name is a time: 1973."""


def natural_key(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names by the numbers in them: image2 comes before image10."""
    parts = re.split(r"(\d+)", str(path))
    return tuple((1, int(part), part) if part.isdigit() else (0, 0, part.casefold()) for part in parts)


def stamps_from_names(stems: Sequence[str]) -> list[int] | None:
    """Return the times that file names without suffix give, in nanoseconds; None if they give none.

    Names such as 1305031102.175304 (seconds, as in TUM RGB-D) and 1305031102175304000 (nanoseconds,
    as in EuRoC) are times; all names must be, and the times must differ.
    """
    stamps = []
    for stem in stems:
        if re.fullmatch(r"\d{9,10}\.\d{1,9}", stem):
            seconds, fraction = stem.split(".")
            stamps.append(int(seconds) * NANOSECONDS + int(fraction.ljust(9, "0")))
        elif re.fullmatch(r"\d{18,19}", stem):
            stamps.append(int(stem))
        else:
            return None
    valid = bool(stamps) and len(set(stamps)) == len(stamps) and min(stamps) >= FIRST_YEAR * NANOSECONDS
    return stamps if valid else None
