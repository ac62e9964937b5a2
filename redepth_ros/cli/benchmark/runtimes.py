"""The runtimes of the fast path, as the benchmark uses them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from redepth_ros.models.runtimes import RUNTIMES

__all__ = ["OTHER_RUNTIMES", "temporary_cache"]

OTHER_RUNTIMES = tuple(sorted(set(RUNTIMES) - {"torch"}, key=lambda name: (name == "compile", name)))
"""All but torch; compile, which takes longest to build, is the last one."""


@contextmanager
def temporary_cache() -> Iterator[None]:
    """Keep networks that the block compiles out of the user's cache: they take GB, and nothing reads them."""
    former = os.environ.get("XDG_CACHE_HOME")
    with TemporaryDirectory(prefix="redepth_benchmark_") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        try:
            yield
        finally:
            if former is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = former
