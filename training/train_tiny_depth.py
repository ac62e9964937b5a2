#!/usr/bin/env python3
"""Train the embedded depth network `tiny` on rendered scenes and real images, from a seed, on a CPU.

    ./dev run python training/train_tiny_depth.py --work WORK
        --pairs FOLDER --textures FOLDER --panoramas FOLDER --frames FOLDER

Renders the scenes and labels the real images into WORK, trains, writes a checkpoint there every 200
steps, and at the end the network. A second call goes on where the first was stopped.
docs/explanation/embedded_networks.md names the data; `bench/tiny_depth.py` measures the result.
"""

from __future__ import annotations

import argparse
import pickle
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import DepthAnythingForDepthEstimation

from redepth_ros.core.metrics import align_depth, depth_errors
from training.batches import SHARES, sample_batch
from training.loop import (
    RunningMean,
    cosine_decay,
    depth_loss,
    log_depth_loss,
    moving_average,
    normalize_affine,
    normalize_image,
    optimizer_step,
    render_scenes,
)
from training.real_images import Sample, label, read_frames, read_pairs, sample_views
from training.scenes.meshes import build_mesh
from training.scenes.models import Model, load_models
from training.scenes.rasterize import Rasterizer, find_textures, read_textures
from training.scenes.textures import atlas
from training.scenes.worlds import sample_scene
from training.tcmonodepth import TcMonoDepth
from training.tiny_network import PATCH, SIDE, build_network, save

WIDTH, HEIGHT = 240, 180
TEACHER_SIDES = (256,)
"""Shorter sides, in pixels, of the teacher's input; its outputs are averaged."""
TARGET = Path(__file__).parents[1] / "redepth_ros" / "models" / "tiny" / "depth"


@lru_cache(maxsize=1)
def _studio(textures: Path, work: Path) -> tuple[Rasterizer, dict[str, list[Model]], int]:
    """Return the rasteriser, the models by category, and the number of textures, once in each process."""
    procedural = (atlas()[0].permute(0, 2, 3, 1).numpy() ** (1 / 2.2) * 255.0).astype(np.uint8)
    everything = np.concatenate((procedural, np.stack(read_textures(textures))))
    models: dict[str, list[Model]] = {}
    for model in cached(work / "models.pkl", load_models):
        models.setdefault(model.category, []).append(model)
    return Rasterizer(everything, WIDTH, HEIGHT), models, len(everything)


def render_scene(seed: int, textures: Path, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Render a seed: image (H, W, 3) uint8 and disparity (H, W) float16 in 1/metres."""
    torch.set_num_threads(1)
    rasterizer, models, count = _studio(textures, work)
    scene = sample_scene(seed, count, WIDTH, HEIGHT)
    rng = np.random.default_rng([seed, 0x30DE1])
    image, depth = rasterizer.render(scene, build_mesh(scene, models, count, rng))
    return _degrade(image, rng), (1.0 / depth).astype(np.float16)


def _degrade(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Darken the corners, blur along a line as motion does, and compress, as cameras do."""
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    seen = image * (1.0 - rng.uniform(0.0, 0.35) * (rows**2 + columns**2) / 2)[..., None]
    if rng.random() < 0.2:
        length, angle = rng.uniform(1.0, 4.0), rng.uniform(0.0, np.pi)
        offsets = [(t * np.cos(angle), t * np.sin(angle)) for t in np.linspace(-length / 2, length / 2, 5)]
        moved = [
            cv2.warpAffine(seen, np.array([[1, 0, x], [0, 1, y]], np.float32), (WIDTH, HEIGHT), borderMode=1)
            for x, y in offsets
        ]
        seen = np.mean(moved, axis=0)
    seen = np.clip(seen, 0, 255).astype(np.uint8)
    if rng.random() < 0.6:
        packed = cv2.imencode(".jpg", seen, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])[1]
        seen = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return seen


def label_images(found: Iterable[tuple[str, np.ndarray]]) -> list[Sample]:
    """Return images with the teacher's disparity."""
    teacher = TcMonoDepth.load()
    samples = []
    for place, image in found:
        image = np.ascontiguousarray(image)
        samples.append(
            Sample(place, image, label(teacher, image, TEACHER_SIDES).astype(np.float16), affine=True)
        )
    return samples


def cached(path: Path, make: Callable[[], list]) -> list:
    """Read a list back from a file, or make it and write it there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(make()))
    found: list = pickle.loads(path.read_bytes())
    return found


def loss_of(predicted: Tensor, target: Tensor, affine: Tensor) -> Tensor:
    """Return the loss of disparities (B, h, w): of affine targets, scale and shift do not count."""
    valid = target.isfinite()
    chosen = affine[:, None, None]
    shaped = torch.where(chosen, normalize_affine(predicted, valid), predicted)
    aligned = normalize_affine(target, valid).masked_fill(~valid, torch.nan)
    loss = depth_loss(shaped, torch.where(chosen, aligned, target))
    return loss + 0.25 * log_depth_loss(predicted[~affine], target[~affine])


def train(
    network: DepthAnythingForDepthEstimation,
    sources: Mapping[str, Sequence[Sample]],
    validation: Sequence[Sample],
    options: argparse.Namespace,
) -> DepthAnythingForDepthEstimation:
    """Train, with a checkpoint every 200 steps; return the moving average of the weights."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.rate, betas=(0.9, 0.95), weight_decay=0.02, fused=True
    )
    steps, scheduler = sum(options.steps), cosine_decay(optimizer, options.steps, warm_up=200)
    averaged, running, first = moving_average(network), RunningMean(), 0
    parts = {"network": network, "averaged": averaged, "optimizer": optimizer, "scheduler": scheduler}
    checkpoint, start = options.work / "checkpoint.pt", time.monotonic()
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        first = state.pop("step")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for step in range(first, steps):
        # A generator for each step: a training that was stopped goes on as if it had not been.
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        image, target, affine = sample_batch(sources, options.batch, generator)
        pixels = normalize_image(image).contiguous(memory_format=torch.channels_last)  # (B, 3, h, w)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = network(pixels).predicted_depth  # (B, h, w)
        loss = loss_of(predicted.float(), target, affine)
        optimizer_step(loss, network, optimizer, scheduler)
        averaged.update_parameters(network)
        running.add(loss.item())
        if (step + 1) % 200 == 0 or step + 1 == steps:
            error = validate(averaged.module, validation)
            minutes = (time.monotonic() - start) / 60
            print(
                f"step {step + 1}/{steps}  loss {running.value:.4f}  "
                f"validation AbsRel {error:.4f}  {minutes:.1f} min",
                flush=True,
            )
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    return averaged.module


@torch.inference_mode()
def validate(network: DepthAnythingForDepthEstimation, samples: Sequence[Sample]) -> float:
    """Return AbsRel after alignment of scale and shift, the mean over places of its means over images."""
    network.eval()
    errors: dict[str, list[float]] = {}
    for sample in samples:
        height, width = sample.disparity.shape
        scale = SIDE / max(height, width)
        size = [PATCH * round(side * scale / PATCH) for side in (height, width)]
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255.0  # (1, 3, h, w)
        pixels = normalize_image(interpolate(image, size, mode="bilinear", antialias=True))
        predicted = network(pixels).predicted_depth  # (1, r, c)
        predicted = interpolate(predicted[None], (height, width), mode="bilinear")[0, 0].numpy()
        valid = np.isfinite(sample.disparity)
        truth = 1.0 / sample.disparity[valid].astype(np.float64)
        error = depth_errors(align_depth(predicted[valid], truth), truth)["abs_rel"]
        errors.setdefault(sample.place, []).append(error)
    network.train()
    return float(np.mean([np.mean(found) for found in errors.values()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("/tmp/redepth_tiny"), help="folder for checkpoints")
    parser.add_argument("--pairs", type=Path, required=True, help="folder of RGB-D pairs with pairs.csv")
    parser.add_argument("--panoramas", type=Path, required=True, help="folder of .hdr panoramas")
    parser.add_argument("--textures", type=Path, required=True, help="folder of photographic tiles")
    parser.add_argument("--frames", type=Path, required=True, help="folder of .jpg images and .mp4 videos")
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--views", type=int, default=75, help="views of each panorama")
    parser.add_argument("--steps", type=int, nargs="+", default=[10_500, 12_500], help="of each cycle")
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--rate", type=float, default=5e-4)
    parser.add_argument("--without", choices=SHARES, help="leave out a source, to see its effect")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder of the network to write")
    options = parser.parse_args()

    torch.manual_seed(options.seed)
    options.work.mkdir(parents=True, exist_ok=True)
    first, textures = options.seed * 10_000_000, len(atlas()[0]) + len(find_textures(options.textures))
    draw = partial(render_scene, textures=options.textures, work=options.work)
    cached(options.work / "models.pkl", load_models)
    images, disparities = render_scenes("scenes", draw, first, options.scenes, options.work)
    sources: dict[str, list[Sample]] = {
        "scenes": [
            Sample("scenes", image.numpy(), disparity.numpy(), affine=False)
            for image, disparity in zip(images, disparities, strict=True)
        ],
        "pairs": list(read_pairs(options.pairs, "train")),
        "views": cached(
            options.work / "views.pkl",
            lambda: label_images(sample_views(options.panoramas, options.views, options.seed)),
        ),
        "frames": cached(options.work / "frames.pkl", lambda: label_images(read_frames(options.frames))),
    }
    if options.without:
        del sources[options.without]
    # One in three: neighbouring frames are alike.
    validation = list(read_pairs(options.pairs, "validation"))[::3]
    network = build_network()
    network = network.to(memory_format=torch.channels_last)
    count = sum(parameter.numel() for parameter in network.parameters())
    counts = ", ".join(f"{len(samples)} {name}" for name, samples in sources.items())
    counts += f"; {textures} textures"
    print(f"{count / 1e6:.2f} M parameters; {counts}; validation AbsRel {validate(network, validation):.4f}")
    network = train(network, sources, validation, options)
    save(network, options.out)
    print(f"written to {options.out}")


if __name__ == "__main__":
    main()
