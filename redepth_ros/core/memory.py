"""Errors that mean memory ran out."""

from __future__ import annotations

import torch

__all__ = ["out_of_memory"]

SAID = (
    "can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "ALLOC_FAILED",
)  # fmt: skip
"""What errors without a class of their own say."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says so: CUDA has a class for it, the CPU's allocator has words only."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in SAID)
