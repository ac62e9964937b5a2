"""`redepth refine`: refine the depth of images, each with figures and a report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress, TaskID

from redepth_ros.cli.progress import progress_bar, step_note
from redepth_ros.cli.refine_task import RefinedImage, RefineTask
from redepth_ros.cli.workers.networks import EngineFacts, package_versions
from redepth_ros.cli.workers.pool import Pool
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import ConfigError, ImageError
from redepth_ros.core.refine.result import Outcome, Step
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.exports.files import ExportError, make_folder, write_bytes, write_json, writing
from redepth_ros.recordings.recording import Recording, Selection, UnreadableFrame

__all__ = ["refine_recording"]


def refine_recording(
    recording: Recording,
    pool: Pool,
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
    the current frame, whose best result so far is written, and skips the others. In other processes it
    ends the frames at work without a result.

    Args:
        recording: of the images.
        pool: has the networks.
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
    console = Console()
    made_with = _made_with(pool.facts, settings, prompt, input_size)
    # Checked for all frames at first: what is found later would cost the work before it.
    done = set() if overwrite else _find_done(out, made_with)
    make_folder(out)
    make_task = partial(RefineTask, settings=settings, prompt=prompt, input_size=input_size)
    with progress_bar(console) as progress:
        refining = _Refining(out, overwrite, made_with, progress)
        try:
            for result in pool.map(refining.tasks(recording, done, make_task, focal), refining.show_step):
                refining.take(result)
        except KeyboardInterrupt:
            console.print("\n".join(refining.skipped), end="")
            raise
    if refining.skipped:
        raise ImageError("; ".join(refining.skipped))


def _made_with(facts: EngineFacts, settings: RefineSettings, prompt: str, input_size: int) -> dict[str, Any]:
    """Return what the results depend on, besides the image."""
    return {
        "model": facts.model,
        "model_hash": facts.model_hash,
        "prior": facts.prior,
        "prior_hash": facts.prior_hash,
        "dtype": facts.dtype,
        "prompt_given": prompt,
        "input_size": input_size or facts.longer_side,
        "settings": dataclasses.asdict(settings),
    }


def _find_done(out: Path, made_with: dict[str, Any]) -> set[str]:
    """Return the names of frames with results.

    Raises:
        ConfigError: results of other settings.
    """
    done = set()
    for path in out.glob("*/report.json"):
        report = _read_report(path)
        other = [key for key, value in made_with.items() if report and report.get(key) != value]
        if other:
            raise ConfigError(
                f"{str(path.parent)!r} has results of other settings ({', '.join(other)}); name another "
                "folder (--out), or replace them by --overwrite"
            )
        if report and report.get("outcome") != Outcome.STOPPED_EARLY.name:
            done.add(path.parent.name)
    return done


def _read_report(path: Path) -> dict[str, Any]:
    """Return a report of this command; empty if it is damaged, or of something else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return report if isinstance(report, dict) and "outcome" in report else {}


class _Refining:
    """Makes tasks of frames, shows how far they are, and writes their results."""

    def __init__(self, out: Path, overwrite: bool, made_with: dict[str, Any], progress: Progress) -> None:
        self._out, self._overwrite, self._progress = out, overwrite, progress
        self._facts = {"versions": package_versions(), **made_with}
        self._bars: dict[str, TaskID] = {}
        self.skipped: list[str] = []
        """Frames without results, with the reasons."""

    def tasks(
        self, recording: Recording, done: set[str], make_task: Callable[..., RefineTask], focal: float
    ) -> Iterator[RefineTask]:
        """Yield the tasks of the frames that are not done."""
        for item in recording.read(Selection()):
            if isinstance(item, UnreadableFrame):
                self._skip(item.name, item.reason)
                continue
            folder = self._out / item.name
            if item.name in done:
                self._progress.console.print(f"{item.name}: done before; see {folder}")
            elif folder.exists() and not folder.is_dir():
                self._skip(item.name, f"{str(folder)!r} is a file; remove it, or name another folder (--out)")
            elif not self._overwrite and _is_foreign(folder):
                self._skip(
                    item.name,
                    f"{str(folder)!r} has files, but no report of redepth refine; remove them, name another "
                    "folder (--out), or replace them by --overwrite",
                )
            else:
                self._bars[item.name] = self._progress.add_task(item.name, total=1.0, note="")
                height, width = item.image.shape[:2]
                camera = item.camera or (PinholeCamera.centered(focal, width, height) if focal else None)
                yield make_task(item.name, item.stamp, item.image, camera, item.anchors)

    def show_step(self, step: Step) -> bool:
        """Show a step of the newest task, which is the one at work where steps are told."""
        last = step.members_done + step.members_at_work
        note = step_note(step.members_done + 1, last, step.ensemble_size, step.step, step.steps, step.loss)
        self._progress.update(next(reversed(self._bars.values())), completed=step.progress, note=note)
        return True

    def take(self, result: RefinedImage) -> None:
        """Write a result.

        Raises:
            KeyboardInterrupt: after Ctrl-C, when the result is written.
        """
        name, folder, console = result.name, self._out / result.name, self._progress.console
        if result.warning:
            console.print(f"{name}: {result.warning}", style="yellow")
        try:
            if result.outcome is None:
                self._skip(name, result.message)
            else:
                _write(folder, result.files, {**result.report, **self._facts})
                console.print(f"{name}: {result.message}; see {folder}")
        except ExportError as error:
            self._skip(name, str(error))
        note = result.outcome.label if result.outcome else "failed"
        self._progress.update(self._bars[name], completed=1.0, note=note)
        if result.interrupted:
            raise KeyboardInterrupt

    def _skip(self, name: str, reason: str) -> None:
        self.skipped.append(f"{name} is skipped: {reason}")


def _is_foreign(folder: Path) -> bool:
    """Return whether a folder holds anything, but no report of this command."""
    return folder.exists() and not _read_report(folder / "report.json") and any(folder.iterdir())


def _write(folder: Path, files: dict[str, bytes], report: dict[str, Any]) -> None:
    """Write all results of a frame.

    Raises:
        ExportError: the disk is full or not writable.
    """
    with writing(folder):
        (folder / "report.json").unlink(missing_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)
    # At last: a folder with a report is complete.
    write_json(folder / "report.json", report)
