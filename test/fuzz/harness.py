"""What every fuzz test asks of a decoder, and how valid bytes are damaged."""

from __future__ import annotations

import resource
import signal
import warnings
from collections import Counter
from contextlib import contextmanager

from hypothesis import settings
from hypothesis import strategies as st

from redepth_ros.core.errors import RedepthError

CPU_SECONDS = 20
"""CPU time of one input after which it counts as a hang."""
MEMORY = 400 * 2**20
"""Bytes by which one input may raise the peak of the process' memory."""

ACCEPTED: Counter[str] = Counter()
"""Number of inputs that were decoded, by decoder."""
REFUSED: Counter[str] = Counter()
"""Number of inputs that ended in an error of this package, by decoder."""


def decode(decoder, *arguments):
    """Return what a decoder makes of an input; None if it refuses it by an error of this package.

    Fails for any other exception, for a warning, and for an input that takes too long or too much memory.
    """
    name = getattr(decoder, "func", decoder).__qualname__  # of a functools.partial, its function
    peak = _peak_memory()
    with _limited_time(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            decoded = decoder(*arguments)
            ACCEPTED[name] += 1
        except RedepthError:
            decoded = None
            REFUSED[name] += 1
    assert not caught, f"{name} warns: {caught[0].message}"
    assert _peak_memory() - peak < MEMORY, f"{name} took {(_peak_memory() - peak) / 2**20:.0f} MiB"
    return decoded


def slow(divisor):
    """Return settings with fewer inputs, for decoders that take milliseconds."""
    return settings(max_examples=max(1, settings().max_examples // divisor))


@contextmanager
def _limited_time():
    def stop(*_):
        raise AssertionError(f"the input took more than {CPU_SECONDS} s of CPU time")

    previous = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, previous)


def _peak_memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


SIZES = st.sampled_from([0, 1, 2, 3, 7, 8, 24, 32, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1]) | st.integers(
    0, 2**32 - 1
)
"""Values of uint32 fields."""

FLOATS = (
    st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 1e-308, float("nan"), float("inf")]) | st.floats()
)
"""Values of float64 fields."""


def mostly(usual, other):
    """Return a strategy that takes nine in ten values from the first one."""
    return st.integers(0, 9).flatmap(lambda number: usual if number else other)


NUMBERS = mostly(st.floats(0.1, 100.0), FLOATS)
"""Floats that are mostly of a usual size."""

TEXTS = st.text(max_size=12) | st.sampled_from(["", "camera", "/camera", "\0", "nan", "-1", "1e999"])


@st.composite
def damaged(draw, data):
    """Draw `data` with none to three faults: parts cut, replaced or repeated, numbers that are no sizes."""
    result = bytearray(data)
    for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3]))):
        at = draw(st.integers(0, len(result)))
        kind = draw(st.sampled_from(["cut", "byte", "byte", "number", "bytes", "remove", "repeat"]))
        if kind == "cut":
            del result[at:]
        elif kind == "byte" and at < len(result):
            result[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            size, order = draw(st.sampled_from([2, 4, 8])), draw(st.sampled_from(["little", "big"]))
            number = draw(st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**31, 2**63, -1])) % 2 ** (8 * size)
            result[at : at + size] = number.to_bytes(size, order)
        elif kind == "bytes":
            added = draw(st.binary(max_size=16))
            result[at : at + len(added)] = added
        elif kind == "remove":
            del result[at : at + draw(st.integers(1, 64))]
        else:
            result[at:at] = result[at : at + draw(st.integers(1, 64))]
    return bytes(result)


def bytes_like(data):
    """Return a strategy of bytes: mostly damaged `data`, also anything."""
    return mostly(damaged(data), st.binary(max_size=200))
