"""Runtimes of a prior: torch, torch.compile, and torch.compile with CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import Module

from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.models.hub import first_line
from redepth_ros.models.runtimes import check_cpp_compiler

__all__ = ["PRIOR_RUNTIMES", "compile_errors", "compile_networks"]

PRIOR_RUNTIMES = ("torch", "compile", "cudagraphs")
"""Values of the parameter `prior_runtime`."""


def compile_networks(runtime: str, device: torch.device, *networks: Module) -> None:
    """Let networks be compiled when they first run, once for each size of their input.

    Args:
        runtime: of `PRIOR_RUNTIMES`; torch leaves the networks as they are.
        device: of the networks.
        networks: each must be one graph.

    Raises:
        ConfigError: the runtime is unknown, or the device can't run it.
        ModelError: a compiler is missing.
    """
    if runtime not in PRIOR_RUNTIMES:
        raise ConfigError(f"prior_runtime is {runtime!r}; it must be one of: {', '.join(PRIOR_RUNTIMES)}")
    if runtime == "torch":
        return
    if runtime == "cudagraphs" and device.type != "cuda":
        raise ConfigError(
            f"prior_runtime is 'cudagraphs' and the device {device}: CUDA graphs need a GPU; set device to "
            "cuda, or use prior_runtime torch or compile"
        )
    if device.type == "cpu":
        check_cpp_compiler("prior_runtime")
    else:
        _check_triton(runtime)
    for network in networks:
        # A part that can't be compiled is an error: without fullgraph it would run as before.
        network.compile(fullgraph=True, mode="reduce-overhead" if runtime == "cudagraphs" else None)


@contextmanager
def compile_errors() -> Iterator[None]:
    """Name the remedy where the block fails to compile a network.

    Raises:
        ModelError: in place of an error of torch's compiler.
    """
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise ModelError(
            f"the prior can't be compiled: {first_line(error)}; use prior_runtime torch"
        ) from error


def _check_triton(runtime: str) -> None:
    """Raise ModelError if torch.compile can't compile for a GPU."""
    from torch.utils._triton import has_triton

    if not has_triton():
        raise ModelError(
            f"prior_runtime is {runtime!r}, but triton is not installed or does not support this GPU: pip "
            "install triton, or use prior_runtime torch"
        )
