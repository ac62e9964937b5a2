"""One exception for every way in which memory runs out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from redepth_ros.core.errors import OutOfMemory

__all__ = ["memory_errors"]

MESSAGES = ("can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "ALLOC_FAILED")
"""Parts of the messages of errors that have no class of their own."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Raise `OutOfMemory` where the block runs out of memory; other errors pass unchanged.

    CUDA has an exception class for it; the CPU's allocator raises a RuntimeError that only its
    message tells apart. The local variables of the failed calls are cleared: the original error's
    traceback would keep their tensors alive.

    Raises:
        OutOfMemory: memory ran out inside the block.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not known and not any(part in str(error) for part in MESSAGES):
            raise
        message = str(error) or type(error).__name__
        traceback.clear_frames(error.__traceback__)
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise OutOfMemory(f"out of memory: {message}")
