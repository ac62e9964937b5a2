"""Devices and precisions of networks."""

from __future__ import annotations

import torch

from redepth_ros.core.errors import ConfigError, ModelError, OutOfMemory
from redepth_ros.core.memory import memory_errors

__all__ = ["move_to", "pick_device", "pick_dtype"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """Return a device by name; "auto" is the first CUDA device if there is one, otherwise the CPU.

    Raises:
        ConfigError: the name is unknown or the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise ConfigError(f"device is {name!r}; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but torch {torch.__version__} sees {torch.cuda.device_count()} "
            "CUDA devices; use auto or cpu, or install a torch that matches the driver"
        )
    return device


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return a dtype by name; "auto" is float16 on CUDA and float32 on a CPU.

    Raises:
        ConfigError: the name is unknown.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"precision is {name!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def move_to(device: torch.device, name: str, *networks: torch.nn.Module) -> None:
    """Move networks to a device, in channels-last format where that is faster.

    Args:
        name: of the networks in error messages, for example "prior 'tiny'".

    Raises:
        ModelError: the memory of the device does not suffice.
    """
    try:
        with memory_errors():
            for network in networks:
                network.to(device)
                # On a CPU, GroupNorm has an error of 1e-3 in channels-last format, and of 1e-6 otherwise.
                if device.type == "cuda" or not _has_group_norm(network):
                    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    except OutOfMemory as error:
        raise ModelError(
            f"{name} does not fit into the memory of {device} ({error}); use a smaller network, another "
            "device, or precision float16"
        ) from None


def _has_group_norm(network: torch.nn.Module) -> bool:
    return any(isinstance(one, torch.nn.GroupNorm) for one in network.modules())
