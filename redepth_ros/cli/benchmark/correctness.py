"""Whether this machine computes correctly, checked with the embedded networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from redepth_ros.cli.benchmark.findings import Check, Deadline, Findings, Missing
from redepth_ros.cli.benchmark.runtimes import OTHER_RUNTIMES
from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.errors import ConfigError, ModelError
from redepth_ros.core.refine.result import Outcome, Refinement
from redepth_ros.data.rendered import load_rendered_images
from redepth_ros.models.depth_networks import load_depth_network
from redepth_ros.models.engine import Engine

__all__ = ["check_correctness", "compare", "reduced_precisions"]

STEPS = 12
"""Optimisation steps of a checked refinement; few enough that rounding does not grow."""
MAX_DIFFERENCE = 0.01
"""Relative difference of the fast disparity above which a check fails."""
MEMORY_SHARES = (0.9, 0.7, 0.5)
"""Shares of the memory that a refinement needs, which it gets in the check of the memory limit."""


def reduced_precisions(device: torch.device) -> tuple[str, ...]:
    """Return the precisions beside float32 that are of use on a device.

    Few CPUs compute in float16, and without them it takes many times as long.
    """
    return ("float16", "bfloat16") if device.type == "cuda" else ("bfloat16",)


def check_correctness(device: torch.device, deadline: Deadline, findings: Findings) -> None:
    """Do all checks that fit into the time."""
    reference = partial(_refine, str(device), "float32")
    checks: dict[str, Callable[[], Check]] = {"CPU against GPU": partial(_check_gpu, device)}
    for precision in reduced_precisions(device):
        result = partial(_refine, str(device), precision)
        name = f"{precision} against float32"
        checks[name] = partial(_check_difference, name, reference, result, precision)
    checks["determinism"] = partial(_check_determinism, reference)
    checks["memory limit"] = partial(_check_memory, device)
    for runtime in OTHER_RUNTIMES:
        checks[f"{runtime} against torch"] = partial(_check_runtime, runtime, device)
    for name, check in checks.items():
        if deadline.left <= 0:
            findings.not_measured.append(Missing(f"check: {name}", "the time of the checks was over"))
        else:
            findings.checks.append(check())


def compare(result: Refinement, reference: Refinement) -> dict[str, float]:
    """Return differences of two results: disparity relative to its mean, normals as mean angles."""
    figures = {}
    for name in ("fast", "refined"):
        one, other = getattr(result, name), getattr(reference, name)  # (h, w)
        figures[f"{name} disparity"] = float((one - other).abs().mean() / other.abs().mean())
    for name, field in (("fast", "fast_depth"), ("refined", "depth")):
        figures[f"{name} normals (°)"] = _mean_angle(getattr(result, field), getattr(reference, field))
    return figures


def _mean_angle(depth: Tensor, other: Tensor) -> float:
    """Return the mean angle of the normals of two depths (h, w), degrees."""
    one, two = (OrthographicCamera().normals(values[None].double()) for values in (depth, other))
    chord = (one - two).norm(dim=1).clamp_max(2.0)  # (1, h, w); acos would round small angles to 0
    return float((2.0 * (chord / 2.0).asin()).rad2deg().mean())


def _refine(device: str, precision: str) -> Refinement:
    """Refine a sample image by a few steps of the embedded networks."""
    engine = Engine.load("tiny", "tiny", device=device, precision=precision)
    settings = dataclasses.replace(engine.preset(), steps=STEPS)
    run = engine.start(next(load_rendered_images()).image, settings)
    for _ in run.steps():
        pass
    return run.result()


def _check_gpu(device: torch.device) -> Check:
    name = "CPU against GPU"
    if device.type == "cpu":
        return Check(name, "skipped", "the device is a CPU")
    return _check_difference(
        name, partial(_refine, "cpu", "float32"), partial(_refine, str(device), "float32")
    )


def _check_difference(
    name: str, reference: Callable[[], Refinement], result: Callable[[], Refinement], precision: str = ""
) -> Check:
    wanted, found = reference(), result()
    figures = compare(found, wanted)
    outcome, note = "passed", f"fast disparity may differ by {MAX_DIFFERENCE:.0%}"
    if found.outcome is Outcome.KEPT_FAST:
        outcome, note = "failed", f"no refinement: {found.message}"
    elif not figures["fast disparity"] <= MAX_DIFFERENCE:  # NaN is no success
        outcome = "failed"
    return Check(name, outcome, note, figures, precision)


def _check_runtime(runtime: str, device: torch.device) -> Check:
    name, image = f"{runtime} against torch", next(load_rendered_images()).image
    network = load_depth_network("tiny", device=str(device), precision="float32")
    try:
        other = network.with_runtime(runtime)
        found = other.predict(image)
    except ConfigError as error:  # not installed
        return Check(name, "skipped", str(error))
    except ModelError as error:
        return Check(name, "failed", str(error), subject=runtime)
    wanted = network.predict(image)
    difference = float((found - wanted).abs().mean() / wanted.abs().mean())
    outcome = "passed" if difference <= MAX_DIFFERENCE else "failed"
    note = f"fast disparity may differ by {MAX_DIFFERENCE:.0%}"
    return Check(name, outcome, note, {"fast disparity": difference}, runtime)


def _check_determinism(refine: Callable[[], Refinement]) -> Check:
    first, second = refine(), refine()
    figures = {"largest difference": float((first.refined - second.refined).abs().max())}
    equal = torch.equal(first.refined, second.refined) and torch.equal(first.fast, second.fast)
    note = "two runs of one refinement " + ("are equal" if equal else "differ")
    return Check("determinism", "passed" if equal else "failed", note, figures)


def _check_memory(device: torch.device) -> Check:
    """Refine with less and less memory: a refinement must get smaller, end early, or say what is missing."""
    name = "memory limit"
    if device.type != "cuda":
        return Check(name, "skipped", "torch limits the memory of CUDA devices only")
    _refine(str(device), "float32")  # without the memory of cuDNN and the first kernels
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    wanted = _refine(str(device), "float32")
    needed = torch.cuda.max_memory_reserved(device)
    total = torch.cuda.get_device_properties(device).total_memory
    notes, passed = [], True
    try:
        for share in MEMORY_SHARES:
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(share * needed / total, device)
            try:
                ended = _refine(str(device), "float32").message
            except ModelError as error:  # says what to change
                ended = str(error)
            except torch.OutOfMemoryError:
                ended, passed = "torch's error was not handled", False
            notes.append(f"{share:.0%} of the memory: {ended}")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    figures = compare(_refine(str(device), "float32"), wanted)  # a failure must leave nothing behind
    passed = passed and figures["refined disparity"] <= MAX_DIFFERENCE
    figures["needed MiB"] = needed / 2**20
    return Check(name, "passed" if passed else "failed", "; ".join(notes), figures)
