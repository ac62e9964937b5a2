"""Devices, precisions, and networks that do not fit."""

import pytest
import torch

from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.models.devices import move_to, pick_device, pick_dtype

CPU = torch.device("cpu")


def test_auto_is_the_first_cuda_device_if_there_is_one(monkeypatch):
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert pick_device("auto") == torch.device(expected)
    assert pick_device("cpu") == CPU


@pytest.mark.parametrize("name", ["meta", "mps", "cpu:x", "", "gpu"])
def test_other_devices_than_cpu_and_cuda_are_rejected(name):
    with pytest.raises(ConfigError, match=f"device is '{name}'; use auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_a_missing_cuda_device_is_rejected_with_the_number_of_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1").index == 1
    with pytest.raises(ConfigError, match=r"device is 'cuda:2', but torch .* sees 2 CUDA devices"):
        pick_device("cuda:2")


def test_auto_precision_is_float16_on_cuda_and_float32_on_a_cpu():
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.float16
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ConfigError, match="precision is 'float8'; use auto, float32, float16, bfloat16"):
        pick_dtype("float8", CPU)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        MemoryError(),
    ],
)
def test_a_network_that_does_not_fit_is_named_with_a_remedy(error):
    class Large(torch.nn.Module):
        def to(self, *_, **__):
            raise error

    words = r"prior 'large' does not fit into the memory of cpu .* use a smaller network"
    with pytest.raises(ModelError, match=words):
        move_to(CPU, "prior 'large'", Large())


def test_memory_that_runs_out_in_the_conversion_to_channels_last_is_named_with_a_remedy():
    class Large(torch.nn.Module):
        def to(self, *_, memory_format=None):
            if memory_format is not None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB")
            return self

    with pytest.raises(ModelError, match=r"prior 'large' does not fit .* use a smaller network"):
        move_to(CPU, "prior 'large'", Large())


def test_other_errors_pass_unchanged():
    class Broken(torch.nn.Module):
        def to(self, *_, **__):
            raise RuntimeError("an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        move_to(CPU, "prior 'broken'", Broken())


def test_convolutions_become_channels_last_except_beside_group_norm_on_a_cpu():
    plain = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3))
    normed = torch.nn.Sequential(torch.nn.Conv2d(4, 4, 3), torch.nn.GroupNorm(2, 4))
    move_to(CPU, "networks", plain, normed)
    assert plain[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not normed[0].weight.is_contiguous(memory_format=torch.channels_last)
