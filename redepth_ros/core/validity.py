"""What is wrong with the output of a depth network, in words and with the remedy."""

from __future__ import annotations

import torch
from torch import Tensor

from redepth_ros.core.errors import ModelError

__all__ = ["check_output", "output_problem"]


def output_problem(output: Tensor, dtype: torch.dtype) -> str:
    """Return what is wrong with the output of a depth network; empty if all its values are finite.

    Args:
        output: of any shape.
        dtype: of the network.
    """
    finite = float(torch.isfinite(output).float().mean())
    if finite == 1.0:
        return ""
    if dtype == torch.float32:
        remedy = "the weights may be damaged: choose another model"
    else:
        name = str(dtype).removeprefix("torch.")
        remedy = f"values overflow in {name}: set precision to float32"
    return f"the network's output is not finite at {100.0 * (1.0 - finite):.3g} % of the pixels; {remedy}"


def check_output(output: Tensor, dtype: torch.dtype) -> None:
    """Raise ModelError if no value of a network's output is finite; see `output_problem`."""
    if not bool(torch.isfinite(output).any()):
        raise ModelError(output_problem(output, dtype))
