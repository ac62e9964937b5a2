"""What `redepth benchmark` finds, as its JSON file holds it."""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from redepth_ros import __version__

__all__ = ["Check", "Deadline", "FastRow", "Findings", "KeyframeRow", "Missing", "describe_machine"]


@dataclass(frozen=True)
class Deadline:
    """The time at which a part of the benchmark ends."""

    end: float
    """By `time.monotonic`."""

    @property
    def left(self) -> float:
        """Seconds until then; below 0 afterwards."""
        return self.end - time.monotonic()

    def share(self, part: float) -> Deadline:
        """Return the deadline of a share of the time that is left, in [0, 1]."""
        return Deadline(time.monotonic() + part * max(0.0, self.left))


@dataclass(frozen=True)
class Check:
    """One check of correctness."""

    name: str
    outcome: str
    """passed, failed or skipped."""
    note: str
    figures: dict[str, float] = field(default_factory=dict)
    subject: str = ""
    """Precision or runtime that is not recommended if the check fails; empty if it is of neither."""


@dataclass(frozen=True)
class FastRow:
    """Speed of the fast path by one network, input size, runtime and precision."""

    network: str
    input_size: int
    """Longer side, pixels."""
    height: int
    width: int
    """Of the network's input, pixels."""
    runtime: str
    precision: str
    seconds: float
    """Median of the rounds, for an image of `IMAGE_SIZE`."""
    hz: float
    rounds: int
    memory_mib: float | None
    """Weights and working memory; None if the system does not tell, and of other runtimes than torch."""


@dataclass(frozen=True)
class KeyframeRow:
    """Cost of a keyframe by one pair of networks and one preset."""

    networks: str
    preset: str
    wanted: bool
    """Whether these are the networks that the user wants; otherwise they stand in for too large ones."""
    members: int
    steps: int
    lights: int
    start_seconds: float
    """Encoder, first decoding and conditions."""
    step_seconds: float
    """Median of the steps that were timed."""
    timed_steps: int
    parts: dict[str, float]
    """Seconds of each part of a step."""
    estimated_seconds: float
    """Extrapolated to all steps of all members, without the checks of the result."""
    evaluations: dict[str, int]
    """Images that pass UNet and autoencoder in a keyframe, extrapolated likewise."""
    image_seconds: float
    """Of one step and one re-lit image."""
    memory_mib: float | None
    notes: list[str]


@dataclass(frozen=True)
class Missing:
    """Something that was not measured."""

    name: str
    reason: str


@dataclass
class Findings:
    """All results so far."""

    machine: dict[str, Any]
    minutes: float
    checks: list[Check] = field(default_factory=list)
    fast: list[FastRow] = field(default_factory=list)
    keyframes: list[KeyframeRow] = field(default_factory=list)
    not_measured: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    recommendation: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    interrupted: bool = False

    def write(self, path: Path) -> None:
        """Write all results as JSON."""
        path.write_text(json.dumps({"redepth": __version__, **asdict(self)}, indent=1) + "\n")


def describe_machine(device: torch.device) -> dict[str, Any]:
    """Return the facts on which the results depend."""
    facts = {
        "device": str(device),
        "processor": platform.machine(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts |= {
            "gpu": properties.name,
            "gpu_memory_mib": properties.total_memory // 2**20,
            "cuda": torch.version.cuda,
        }
    return facts
