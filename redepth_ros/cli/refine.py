"""`redepth refine`: refine the depth of image files."""

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

from redepth_ros.cli.datasets import read_image
from redepth_ros.cli.progress import progress_bar, step_note
from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import ImageError, ModelError
from redepth_ros.core.images import to_uint8
from redepth_ros.core.refine.result import Refinement, Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine
from redepth_ros.viz.colormaps import colorize_depth, colorize_normals
from redepth_ros.viz.figures import plot_losses, plot_refinement

__all__ = ["refine_images"]


@dataclass(frozen=True)
class _Refined:
    """An image with its refinement, at the size of the network's input."""

    path: Path
    image: NDArray[np.uint8]
    camera: PinholeCamera | None
    result: Refinement
    seconds: float
    """From reading the image to the result."""


def refine_images(
    paths: list[Path],
    engine: Engine,
    settings: RefineSettings,
    out: Path,
    *,
    prompt: str = "",
    input_size: int = 0,
    focal: float = 0.0,
) -> None:
    """Refine each image and write its results to a folder of its own.

    Images that can't be used are skipped. Ctrl-C ends the current image, whose best result so far
    is written, and skips the others.

    Args:
        paths: of the images.
        engine: the networks.
        settings: of the refinement.
        out: folder of the results' folders; made if missing.
        prompt: describes the images; empty asks the captioner, if there is one.
        input_size: longer side of the network's input, pixels; 0 takes the network's default.
        focal: focal length in pixels, with the principal point in the centre; 0 if unknown.

    Raises:
        ImageError: images were skipped; the message names them.
        KeyboardInterrupt: after Ctrl-C, when the results are written.
    """
    console, skipped, interrupted = Console(), [], False
    with progress_bar(console) as progress:
        for path in paths:
            started = time.monotonic()
            try:
                image = read_image(path)
                height, width = image.shape[:2]
                camera = PinholeCamera.centered(focal, width, height) if focal else None
                run = engine.start(image, settings, camera=camera, prompt=prompt, input_size=input_size)
            except (ImageError, ModelError) as error:
                skipped.append(f"{path.name} is skipped: {error}")
                continue
            task = progress.add_task(path.name, total=1.0, note="")
            try:
                for step in run.steps():
                    progress.update(task, completed=step.progress, note=_describe(step))
            except KeyboardInterrupt:
                interrupted = True
            result = run.result()
            progress.update(task, completed=1.0, note=result.outcome.label)
            folder = _name_folder(out, path, paths)
            _write(
                folder, _Refined(path, image, camera, result, time.monotonic() - started), engine, settings
            )
            console.print(f"{path.name}: {result.message}; see {folder}")
            if interrupted:
                break
    if interrupted:
        console.print("\n".join(skipped), end="")
        raise KeyboardInterrupt
    if skipped:
        raise ImageError("; ".join(skipped))


def _describe(step: Step) -> str:
    last = step.members_done + step.members_at_work
    return step_note(step.members_done + 1, last, step.ensemble_size, step.step, step.steps, step.loss)


def _name_folder(out: Path, path: Path, paths: list[Path]) -> Path:
    """Name a folder after an image, with a number if several images have the same name."""
    same = [one for one in paths if one.stem == path.stem]
    return out / (path.stem if len(same) == 1 else f"{path.stem}-{same.index(path) + 1}")


def _write(folder: Path, refined: _Refined, engine: Engine, settings: RefineSettings) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image, result = refined.image, refined.result.at_size(*refined.image.shape[:2])
    depth, fast = result.depth, result.fast_depth
    camera = refined.camera or OrthographicCamera()
    normals, fast_normals = camera.normals(torch.stack((depth, fast))).numpy()  # (3, H, W) each
    maps = {
        "depth": depth.numpy(),
        "fast_depth": fast.numpy(),
        "stddev": (result.relative_stddev * depth).numpy(),
        "normals": normals,
        "fast_normals": fast_normals,
    }
    np.savez_compressed(folder / "maps.npz", **maps)
    _write_rgb(folder / "color.png", colorize_depth(maps["depth"]))
    _write_rgb(folder / "normals.png", to_uint8(colorize_normals(normals)))
    thousandths = np.nan_to_num(maps["depth"] * 1000.0, nan=0.0, posinf=0.0).round()
    stored = np.where(thousandths <= 65535, thousandths, 0).astype(np.uint16)
    cv2.imwrite(str(folder / "depth.png"), stored)
    unit = "m" if engine.model.metric else "half image heights, scale unknown"
    plot_refinement(
        folder / "sheet.png",
        image,
        maps["fast_depth"],
        maps["depth"],
        camera,
        unit=unit,
        title=refined.path.name,
        outcome=result.message,
    )
    plot_losses(folder / "losses.png", result.history)
    report = {**_report(refined, engine, settings), "depth_unit": unit}
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def _write_rgb(path: Path, image: NDArray[np.uint8]) -> None:
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _report(refined: _Refined, engine: Engine, settings: RefineSettings) -> dict[str, Any]:
    image, result = refined.image, refined.result
    return {
        "image": str(refined.path),
        "outcome": result.outcome.name,
        "message": result.message,
        "model": engine.model.name,
        "prior": engine.prior.name,
        "device": str(engine.model.device),
        "dtype": str(engine.model.dtype),
        "prompt": result.prompt,
        "camera": dataclasses.asdict(refined.camera) if refined.camera else None,
        "depth_png": "1000 per unit, 0 is invalid",
        "size": [image.shape[1], image.shape[0]],
        "network_size": [result.refined.shape[1], result.refined.shape[0]],
        "steps": result.steps,
        "seconds_refining": round(result.elapsed, 3),
        "seconds": round(refined.seconds, 3),
        "settings": dataclasses.asdict(settings),
    }
