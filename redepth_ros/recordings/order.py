"""Natural order of names, and times that names give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["natural_key", "stamps_from_names"]

NANOSECONDS = 10**9
FIRST_YEAR = 10**8
"""Seconds since 1970 from which on a number in a name is a time: 1973."""
LAST_YEAR = 2**31
"""Seconds since 1970 that stamps of ROS end at: 2038."""


def natural_key(path: Path | str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names by the numbers in them: image2 comes before image10."""
    parts = re.split(r"([0-9]+)", str(path))  # texts and numbers in turn
    return tuple(
        (1, len(part.lstrip("0")), f"{part.lstrip('0')} {part}") if index % 2 else (0, 0, part.casefold())
        for index, part in enumerate(parts)
    )


def stamps_from_names(stems: Sequence[str]) -> list[int] | None:
    """Return the times that file names without suffix give, in nanoseconds; None if they give none.

    Names such as 1305031102.175304 (seconds, as in TUM RGB-D) and 1305031102175304000 (nanoseconds,
    as in EuRoC) are times; all names must be, and the times must differ.
    """
    stamps = []
    for stem in stems:
        if re.fullmatch(r"[0-9]{9,10}\.[0-9]{1,9}", stem):
            seconds, fraction = stem.split(".")
            stamps.append(int(seconds) * NANOSECONDS + int(fraction.ljust(9, "0")))
        elif re.fullmatch(r"[0-9]{18,19}", stem):
            stamps.append(int(stem))
        else:
            return None
    distinct = bool(stamps) and len(set(stamps)) == len(stamps)
    valid = distinct and min(stamps) // NANOSECONDS >= FIRST_YEAR and max(stamps) // NANOSECONDS < LAST_YEAR
    return stamps if valid else None
