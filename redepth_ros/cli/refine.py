"""`redepth refine`: refine the depth of pictures in files."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from redepth_ros.cli.datasets import read_picture
from redepth_ros.viz.figures import draw_losses, draw_refinement, normal_colours
from redepth_ros.core.errors import ImageError, ModelError
from redepth_ros.core.camera import (
    normals_from_points,
    orthographic_points,
    pixel_rays,
    points_from_depth,
)
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.result import Refinement, Step
from redepth_ros.models.engine import Engine
from redepth_ros.viz.colormaps import colour_depth

__all__ = ["refine_pictures"]


@dataclass(frozen=True)
class _Maps:
    """A refinement at its picture's size, as arrays (H, W) and normals (3, H, W)."""

    depth: NDArray[np.float32]
    fast_depth: NDArray[np.float32]
    stddev: NDArray[np.float32]
    normals: NDArray[np.float32]
    fast_normals: NDArray[np.float32]


def refine_pictures(
    paths: list[Path], engine: Engine, settings: RefineSettings, out: Path, *,
    prompt: str = "", longer_side: int = 0, focal: float = 0.0,
) -> None:  # fmt: skip
    """Refine each picture and write what came of it to a folder of its own in `out`.

    Ctrl-C ends the picture at work, whose best so far is written, and leaves out the rest. One that can't
    be used is left out, too.

    Args:
        paths: of the pictures.
        engine: the networks.
        settings: of the refinement.
        out: folder, made where it is not there.
        prompt: what the pictures show.
        longer_side: pixels at which the network sees them; 0 is the model's own.
        focal: focal length in pixels, with the principal point in the middle; 0 is unknown.

    Raises:
        ImageError: pictures that could not be used, named at the end.
        KeyboardInterrupt: after Ctrl-C, once all is written.
    """
    console = Console()
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    unusable: list[str] = []
    with Progress(*columns, console=console) as progress:
        for path in paths:
            started = time.monotonic()
            try:
                image = read_picture(path)
                height, width = image.shape[:2]
                camera = None
                if focal:
                    camera = Intrinsics.centred(focal, width, height)
                run = engine.start(image, settings, intrinsics=camera, prompt=prompt, longer_side=longer_side)
            except (ImageError, ModelError) as error:
                unusable.append(f"{path.name} is left out: {error}")
                continue
            task = progress.add_task(path.name, total=1.0, state="")
            interrupted = False
            try:
                for step in run.steps():
                    progress.update(task, completed=step.share, state=_describe(step))
            except KeyboardInterrupt:
                interrupted = True
            result = run.result()
            progress.update(task, completed=1.0, state=result.outcome.name.lower().replace("_", " "))
            folder = _name_folder(out, path, paths)
            _write(folder, path, image, camera, result, engine, settings, time.monotonic() - started)
            console.print(f"{path.name}: {result.message}; see {folder}")
            if interrupted:
                console.print("\n".join(unusable), end="")
                raise KeyboardInterrupt
    if unusable:
        raise ImageError("; ".join(unusable))


def _describe(step: Step) -> str:
    last = step.members_done + step.members_at_work
    members = f"{step.members_done + 1}" + (f"-{last}" if last > step.members_done + 1 else "")
    return f"member {members} of {step.members}, step {step.step}/{step.steps}, loss {step.loss:.4g}"


def _name_folder(out: Path, path: Path, paths: list[Path]) -> Path:
    """A folder by the picture's name, numbered where two pictures have the same."""
    twins = [one for one in paths if one.stem == path.stem]
    return out / (path.stem if len(twins) == 1 else f"{path.stem}-{twins.index(path) + 1}")


def _write(
    folder: Path, path: Path, image: NDArray[np.uint8], camera: Intrinsics | None, result: Refinement,
    engine: Engine, settings: RefineSettings, seconds: float,
) -> None:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    maps = _full_size(result, camera, *image.shape[:2])
    metric = engine.model.metric
    unit = "m" if metric else "half picture heights, scale unknown"
    thousandths = np.nan_to_num(maps.depth * 1000.0, nan=0.0, posinf=0.0).round()
    stored = np.where(thousandths <= 65535, thousandths, 0).astype(np.uint16)
    cv2.imwrite(str(folder / "depth.png"), stored)
    cv2.imwrite(str(folder / "normals.png"), _bgr(normal_colours(maps.normals)))
    cv2.imwrite(str(folder / "color.png"), colour_depth(maps.depth)[:, :, ::-1])
    np.savez_compressed(folder / "maps.npz", **dataclasses.asdict(maps))
    draw_refinement(
        folder / "sheet.png", image, maps.fast_depth, maps.depth, (maps.fast_normals, maps.normals), unit,
        f"{path.name}: {result.message}",
    )  # fmt: skip
    groups: dict[tuple[int, int], list[Step]] = {}
    for step in result.history:
        groups.setdefault((step.members_done, step.members_at_work), []).append(step)
    draw_losses(
        folder / "losses.png",
        [[step.loss_sds for step in group] for group in groups.values()],
        [[step.loss_smoothness for step in group] for group in groups.values()],
    )
    report: dict[str, Any] = {
        "picture": str(path),
        "outcome": result.outcome.name,
        "message": result.message,
        "model": engine.model.name,
        "prior": engine.prior.name,
        "device": str(engine.model.device),
        "dtype": str(engine.model.dtype),
        "prompt": result.prompt,
        "intrinsics": dataclasses.asdict(camera) if camera else None,
        "depth_unit": unit,
        "depth_png": "1000 a unit, 0 is invalid",
        "size": [image.shape[1], image.shape[0]],
        "network_size": [result.refined.shape[1], result.refined.shape[0]],
        "steps": result.steps,
        "seconds_refining": round(result.elapsed, 3),
        "seconds": round(seconds, 3),
        "settings": dataclasses.asdict(settings),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def _full_size(result: Refinement, camera: Intrinsics | None, height: int, width: int) -> _Maps:
    def grown(values: torch.Tensor) -> torch.Tensor:
        return Engine.full_size(values, height, width)

    depth, fast = grown(result.depth), grown(result.fast_depth)
    if camera:
        points = points_from_depth(torch.stack((depth, fast)), pixel_rays(camera))
    else:
        points = orthographic_points(torch.stack((depth, fast)))
    normals = normals_from_points(points).numpy()
    stddev = grown(result.spread * result.depth)
    return _Maps(depth.numpy(), fast.numpy(), stddev.numpy(), normals[0], normals[1])


def _bgr(colours: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.asarray((colours[:, :, ::-1] * 255.0).round(), np.uint8)
