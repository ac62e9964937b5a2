"""One exception for every way in which memory runs out."""

import weakref

import pytest
import torch

from redepth_ros.core.errors import OutOfMemory
from redepth_ros.core.memory import memory_errors


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 B"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("Unable to allocate 1.00 TiB"),
    ],
)
def test_every_kind_of_memory_error_becomes_out_of_memory(error):
    with pytest.raises(OutOfMemory, match="out of memory: ") as caught, memory_errors():
        raise error
    assert str(error) in str(caught.value)


def test_a_memory_error_without_a_message_is_named():
    with pytest.raises(OutOfMemory, match="out of memory: MemoryError"), memory_errors():
        raise MemoryError


def test_tensors_of_the_failed_call_are_released():
    alive = []

    def fail():
        tensor = torch.zeros(3)
        alive.append(weakref.ref(tensor))
        raise MemoryError

    with pytest.raises(OutOfMemory) as caught, memory_errors():
        fail()
    assert alive[0]() is None, "the error that is still held must not hold the tensor"
    del caught


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory")])
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, memory_errors():
        raise error
    assert caught.value is error


def test_a_block_without_errors_ends_normally():
    with memory_errors():
        value = 3
    assert value == 3
