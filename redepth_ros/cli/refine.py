"""`redepth refine`: refine the depth of images, each with figures and a report."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress, TaskID

from redepth_ros.cli.process.report import network_hash, package_versions
from redepth_ros.cli.progress import progress_bar, step_note
from redepth_ros.core.camera import OrthographicCamera, PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, ImageError, ModelError
from redepth_ros.core.images import to_uint8
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.refine.result import Outcome, Refinement, Step
from redepth_ros.core.refine.run import Run
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.exports.files import to_uint16, write_image, write_json
from redepth_ros.models.engine import Engine
from redepth_ros.recordings.recording import RecordedFrame, Recording, Selection, UnreadableFrame
from redepth_ros.viz.colormaps import colorize_depth, colorize_normals
from redepth_ros.viz.figures import plot_losses, plot_refinement

__all__ = ["refine_recording"]


@dataclass(frozen=True)
class _Refined:
    """A frame with its refinement, at the size of the network's input."""

    frame: RecordedFrame
    camera: PinholeCamera | None
    result: Refinement
    seconds: float
    """From the decoded image to the result."""


def refine_recording(
    recording: Recording,
    engine: Engine,
    settings: RefineSettings,
    out: Path,
    *,
    prompt: str = "",
    input_size: int = 0,
    focal: float = 0.0,
    overwrite: bool = False,
) -> None:
    """Refine each frame of a recording and write its results to a folder of its own.

    Frames that can't be used are skipped; those whose results are there are not done again. Ctrl-C ends
    the current frame, whose best result so far is written, and skips the others.

    Args:
        recording: of the images.
        engine: the networks.
        settings: of the refinement.
        out: folder of the results' folders; made if missing.
        prompt: describes the images; empty asks the captioner, if there is one.
        input_size: longer side of the network's input, pixels; 0 takes the network's default.
        focal: focal length in pixels of frames without a calibration, with the principal point in the
            centre; 0 if unknown.
        overwrite: whether results of other settings are replaced.

    Raises:
        ConfigError: there are results of other settings, and `overwrite` is not given.
        ImageError: frames were skipped; the message names them.
        KeyboardInterrupt: after Ctrl-C, when the results are written.
    """
    console, skipped = Console(), []
    made_with = _made_with(engine, settings, prompt, input_size)
    # Checked for all frames at first: what is found later would cost the work before it.
    done = set() if overwrite else _find_done(out, made_with)
    with progress_bar(console) as progress:
        for item in recording.read(Selection()):
            if isinstance(item, UnreadableFrame):
                skipped.append(f"{item.name} is skipped: {item.reason}")
                continue
            folder = out / item.name
            if item.name in done:
                console.print(f"{item.name}: done before; see {folder}")
                continue
            task = progress.add_task(item.name, total=1.0, note="")
            try:
                start = partial(engine.start, item.image, settings, prompt=prompt, input_size=input_size)
                refined, interrupted = _refine(item, start, focal, progress, task)
                _write(folder, refined, engine, made_with)
            except (ImageError, ModelError, OSError) as error:
                skipped.append(f"{item.name} is skipped: {error}")
                continue
            progress.update(task, completed=1.0, note=refined.result.outcome.label)
            console.print(f"{item.name}: {refined.result.message}; see {folder}")
            if interrupted:
                console.print("\n".join(skipped), end="")
                raise KeyboardInterrupt
    if skipped:
        raise ImageError("; ".join(skipped))


def _made_with(engine: Engine, settings: RefineSettings, prompt: str, input_size: int) -> dict[str, Any]:
    """Return what the results depend on, besides the image."""
    return {
        "model": engine.model.name,
        "prior": engine.prior.name,
        "prompt_given": prompt,
        "input_size": input_size or engine.model.longer_side,
        "settings": dataclasses.asdict(settings),
    }


def _find_done(out: Path, made_with: dict[str, Any]) -> set[str]:
    """Return the names of frames with results.

    Raises:
        ConfigError: results of other settings, or a path that is no folder.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out is {str(out)!r}, which is a file; name a folder for the results")
    done = set()
    for path in out.glob("*/report.json"):
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        other = [key for key, value in made_with.items() if report.get(key) != value]
        if other:
            raise ConfigError(
                f"{str(path.parent)!r} has results of other settings ({', '.join(other)}); name another "
                "folder "
                "(--out), or replace them by --overwrite"
            )
        if report.get("outcome") != Outcome.STOPPED_EARLY.name:
            done.add(path.parent.name)
    return done


def _refine(
    frame: RecordedFrame, start: Callable[..., Run], focal: float, progress: Progress, task: TaskID
) -> tuple[_Refined, bool]:
    """Return the refined frame, and whether Ctrl-C ended it."""
    started, interrupted = time.monotonic(), False
    height, width = frame.image.shape[:2]
    camera = frame.camera or (PinholeCamera.centered(focal, width, height) if focal else None)
    try:
        run = start(camera=camera, anchors=frame.anchors)
    except AnchorError as error:
        progress.console.print(f"{frame.name}: anchors are not used: {error}", style="yellow")
        run = start(camera=camera)
    try:
        for step in run.steps():
            progress.update(task, completed=step.progress, note=_describe(step))
    except KeyboardInterrupt:
        interrupted = True
    return _Refined(frame, camera, run.result(), time.monotonic() - started), interrupted


def _describe(step: Step) -> str:
    last = step.members_done + step.members_at_work
    return step_note(step.members_done + 1, last, step.ensemble_size, step.step, step.steps, step.loss)


def _write(folder: Path, refined: _Refined, engine: Engine, made_with: dict[str, Any]) -> None:
    """Write all results of a frame.

    Raises:
        OSError: the disk is full or not writable.
        ExportError: the same, by an image.
    """
    folder.mkdir(parents=True, exist_ok=True)
    image, maps, unit = refined.frame.image, *_maps(refined, engine)
    camera = refined.camera or OrthographicCamera()
    both = torch.from_numpy(np.stack((maps["depth"], maps["fast_depth"])))
    maps["normals"], maps["fast_normals"] = camera.normals(both).numpy()  # (3, H, W) each
    np.savez_compressed(folder / "maps.npz", **maps)
    write_image(folder / "color.png", colorize_depth(maps["depth"]))
    write_image(folder / "normals.png", to_uint8(colorize_normals(maps["normals"])))
    write_image(folder / "depth.png", to_uint16(maps["depth"], 1000.0))
    plot_refinement(
        folder / "sheet.png",
        image,
        maps["fast_depth"],
        maps["depth"],
        camera,
        unit=unit,
        title=refined.frame.name.replace("$", r"\$"),  # $ begins a formula
        outcome=refined.result.message,
    )
    plot_losses(folder / "losses.png", refined.result.history)
    # At last: a folder with a report is complete.
    report = {**_report(refined, engine), **made_with, "depth_unit": unit}
    write_json(folder / "report.json", report)


def _maps(refined: _Refined, engine: Engine) -> tuple[dict[str, Any], str]:
    """Return depth, fast depth and standard deviation, (H, W) each, and their unit."""
    result = refined.result.at_size(*refined.frame.image.shape[:2])
    if result.anchors is not None:
        scaled = result.scaled(result.scale or Scale(), 0.0)
        maps = {"depth": scaled.depth, "fast_depth": scaled.fast, "stddev": scaled.stddev}
        return {name: values.numpy() for name, values in maps.items()}, "m"
    maps = {
        "depth": result.depth,
        "fast_depth": result.fast_depth,
        "stddev": result.relative_stddev * result.depth,
    }
    unit = "m" if engine.model.metric else "half image heights, scale unknown"
    return {name: values.numpy() for name, values in maps.items()}, unit


def _report(refined: _Refined, engine: Engine) -> dict[str, Any]:
    image, result = refined.frame.image, refined.result
    return {
        "image": refined.frame.name,
        "stamp": refined.frame.stamp,
        "versions": package_versions(),
        "model_hash": network_hash(engine.model.network),
        "outcome": result.outcome.name,
        "message": result.message,
        "device": str(engine.model.device),
        "dtype": str(engine.model.dtype),
        "prompt": result.prompt,
        "camera": dataclasses.asdict(refined.camera) if refined.camera else None,
        "anchors": len(result.anchors) if result.anchors else 0,
        "scale": dataclasses.asdict(result.scale) if result.scale else None,
        "depth_png": "1000 per unit, 0 is invalid",
        "size": [image.shape[1], image.shape[0]],
        "network_size": [result.refined.shape[1], result.refined.shape[0]],
        "steps": result.steps,
        "plan": dataclasses.asdict(result.plan),
        "losses": [round(step.loss, 6) for step in result.history],
        "seconds_refining": round(result.elapsed, 3),
        "seconds": round(refined.seconds, 3),
    }
