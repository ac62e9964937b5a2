"""Where a network runs and in which precision."""

from __future__ import annotations

import torch

from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.core.memory import out_of_memory

__all__ = ["move_to", "pick_device", "pick_dtype"]

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is the first CUDA device where there is one, else the CPU.

    Raises:
        ConfigError: an unknown name, or a device that this machine does not have.
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
    """The dtype of a name; "auto" is half precision on CUDA and single on a CPU.

    Raises:
        ConfigError: an unknown name.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"precision is {name!r}; use auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def move_to(device: torch.device, what: str, *networks: torch.nn.Module) -> None:
    """Move networks to a device, their channels last in memory where that is faster.

    Args:
        what: what they are, for the message: "prior 'tiny'".

    Raises:
        ModelError: the device's memory does not suffice.
    """
    try:
        for network in networks:
            network.to(device)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ModelError(
            f"{what} does not fit into the memory of {device} ({error}); use a smaller one, another "
            "device, or precision float16"
        ) from error
    for network in networks:
        # A CPU's GroupNorm rounds to 1e-3 in that layout, where it is exact to 1e-6 otherwise.
        if device.type == "cuda" or not any(isinstance(one, torch.nn.GroupNorm) for one in network.modules()):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
