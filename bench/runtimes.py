#!/usr/bin/env python3
"""Speed and error of the runtimes of the fast depth, side by side in one run.

    ./dev bench runtimes [--rounds 15] [--threads N] [--device auto] [--size Small]
        [--runtimes openvino ...] [--json FILE]

The first table times `predict` on a 640 x 480 image with Depth Anything V2 of true size and random weights
(network input 518 x 392). The runtimes take turns, so that other work of the machine slows all of them; the
ratio is the median over the rounds of the time of torch float32 by the time of the runtime. The second table
compares the outputs of a trained network (bench/relief_depth) with those of torch float32. A row of torch
whose neck and head are bfloat16 too shows the terraces that the package avoids. Runtimes that are not
installed are skipped: pip install openvino onnxruntime onnx onnxscript
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bench.domains import DEPTH_NETWORK, TEST_ATLAS, TEST_SEED
from redepth_ros.cli.benchmark.runtimes import OTHER_RUNTIMES as RUNTIMES
from redepth_ros.cli.progress import ConsoleLog
from redepth_ros.core.camera import OrthographicCamera
from redepth_ros.core.errors import RedepthError
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine.settings import PRESETS
from redepth_ros.models.depth_anything import DepthAnything
from redepth_ros.models.devices import pick_device
from redepth_ros.models.random_networks import DEPTH_SIZES, random_depth_network
from training.scenes.relief import sample_relief
from training.scenes.textures import atlas

BASELINE = "torch float32"
INPUT_SIZE = 280
"""Longer side of the input of the trained network, pixels."""


def load_all(
    console: Console,
    runtimes: list[str],
    make: Callable[[str], DepthAnything],
    image: np.ndarray,
    input_size: int,
) -> dict[str, DepthAnything]:
    """Return the network by each runtime and precision that this machine has; print why others are skipped.

    Args:
        make: returns the network with torch, in a precision.
        image, input_size: that the networks are compiled for.
    """
    half = "float16" if make("float32").device.type == "cuda" else "bfloat16"
    found = {}
    for runtime in runtimes:
        for precision in ("float32", half):
            name = f"{runtime} {precision}"
            try:
                network = make(precision).with_runtime(runtime, ConsoleLog(console))
                network.predict(image, input_size)
            except RedepthError as error:
                console.print(f"skipped: {name}: {error}", style="yellow")
            else:
                found[name] = network
    return found


def time_all(
    console: Console, networks: dict[str, DepthAnything], image: np.ndarray, rounds: int, title: str
) -> dict:
    """Print and return milliseconds per frame and ratios."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(rounds):
        for name, network in networks.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            network.predict(image).cpu()
            seconds[name].append(time.perf_counter() - began)
            cpu_seconds[name].append(time.process_time() - cpu_began)
    table = Table(
        "", "ms, median", "ms, best", "CPU ms, best", "frames, by those of torch float32", title=title
    )
    results = {}
    for name, values in seconds.items():
        ratios = np.array(seconds[BASELINE]) / values
        low, ratio, high = np.percentile(ratios, [25, 50, 75])
        results[name] = {
            "median_ms": float(np.median(values)) * 1e3,
            "best_ms": min(values) * 1e3,
            "best_cpu_ms": min(cpu_seconds[name]) * 1e3,
            "ratio": float(ratio),
        }
        table.add_row(
            name,
            f"{results[name]['median_ms']:.0f}",
            f"{results[name]['best_ms']:.0f}",
            f"{results[name]['best_cpu_ms']:.0f}",
            f"{ratio:.2f} ({low:.2f} to {high:.2f})",
        )
    console.print(table)
    return results


class AllBfloat16(DepthAnything):
    """Torch with neck and head in bfloat16: the control of the second table."""

    def decode(self, embeddings):
        stages = [
            torch.cat((token, patches), dim=1)
            for token, patches in zip(embeddings.constants, embeddings.features, strict=True)
        ]
        return self.network.head(self.network.neck(stages, *embeddings.grid), *embeddings.grid)


def normals_of(disparity: torch.Tensor) -> torch.Tensor:
    """Return the normals (3, H, W) as the refinement sees them."""
    settings = PRESETS["default"]
    depth = settings.depth_scale / (disparity.cpu().double() + settings.disparity_offset)
    return OrthographicCamera().normals(depth)


def compare_all(console: Console, networks: dict[str, DepthAnything], image: np.ndarray) -> dict:
    """Print and return the errors of a trained network on an image."""
    control = AllBfloat16.load(str(DEPTH_NETWORK), device="cpu", precision="bfloat16")
    control.network.bfloat16()
    baseline = networks[BASELINE].predict_frame(image, INPUT_SIZE)
    expected, expected_token = baseline.output, baseline.class_token
    normals = normals_of(expected)
    titles = ("largest relative error", "normals, mean", "normals, 95 %", "distinct values", "class token")
    table = Table("", *titles, title="trained network, against torch float32")
    results = {}
    for name, network in {**networks, "torch, all bfloat16": control}.items():
        prediction = network.predict_frame(image, INPUT_SIZE)
        output, token = prediction.output, prediction.class_token
        cosine = (normals_of(output) * normals).sum(0).clamp(-1.0, 1.0)
        degrees = torch.rad2deg(torch.acos(cosine)).flatten()
        results[name] = found = {
            "relative_error": float(((output - expected).abs() / expected.abs()).max()),
            "normals_mean": float(degrees.mean()),
            "normals_95": float(degrees.quantile(0.95)),
            "distinct": len(output.unique()),
            "token_error": float((token.float() - expected_token).norm() / expected_token.norm()),
        }
        table.add_row(
            name,
            f"{found['relative_error']:.1e}",
            f"{found['normals_mean']:.2f} deg",
            f"{found['normals_95']:.2f} deg",
            f"{found['distinct']} of {output.numel()}",
            f"{found['token_error']:.1e}",
        )
    console.print(table)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", choices=tuple(DEPTH_SIZES), default="Small")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=RUNTIMES, help="besides torch")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    console, device = Console(), pick_device(options.device)

    def random_network(precision: str) -> DepthAnything:
        torch.manual_seed(0)
        return random_depth_network(options.size, device=options.device, precision=precision)

    def trained_network(precision: str) -> DepthAnything:
        return DepthAnything.load(str(DEPTH_NETWORK), device=options.device, precision=precision)

    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    runtimes = ["torch", *options.runtimes]
    networks = load_all(console, runtimes, random_network, image, 0)
    title = f"DA-V2 {options.size}, random weights, 518 x 392, {device}, {options.threads} threads"
    results = {"speed": time_all(console, networks, image, options.rounds, title)}
    scene = sample_relief(TEST_SEED, atlas(TEST_ATLAS), side=INPUT_SIZE)
    image = to_uint8(scene.image.permute(1, 2, 0).numpy())
    networks = load_all(console, runtimes, trained_network, image, INPUT_SIZE)
    results["error"] = compare_all(console, networks, image)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
