"""`redepth process`: from the options to the finished folder."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from redepth_ros.cli.options import given_settings, replace_settings
from redepth_ros.cli.process.inputs import open_input
from redepth_ros.cli.process.options import choose_formats, depth_settings, input_options
from redepth_ros.cli.process.report import fingerprint, make_report, print_summary, raise_failures
from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import write_json, write_table
from redepth_ros.exports.formats import FORMATS
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.recordings.recording import Recording, Selection

if TYPE_CHECKING:
    from redepth_ros.cli.process.pipeline import Work
    from redepth_ros.models.depth_anything import DepthAnything
    from redepth_ros.models.engine import Engine

__all__ = ["process"]


def process(options: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        ConfigError: the options do not fit the input or each other.
        ImageError: frames have no depth; the others are written.
        KeyboardInterrupt: after Ctrl-C, when everything is written.
    """
    console = Console()
    given, settings = given_settings(options), depth_settings(options)
    selection = Selection(options.every, options.rate, options.start, options.end)
    recording, kind = open_input(options.input, input_options(options))
    if settings.camera_height:
        kind = "height"
    formats = choose_formats(options, recording)
    _check_output(options.out, options.input)
    if options.model == "tiny":
        console.print(
            "model is tiny, the embedded network for trying out; name a real one by --model", style="yellow"
        )
    networks = _load_networks(options, given)
    network, engine, refine_settings = networks
    from redepth_ros.cli.process.pipeline import Work

    work = Work(
        settings,
        dataclasses.replace(settings, keyframe_min_interval=0.0).keyframe_selector()
        if options.keyframes == "all"
        else settings.keyframe_selector(),
        options.keyframes,
        options.input_size,
        refine_settings=refine_settings,
        prompt=options.prompt,
    )
    session = _session(recording, settings, network.metric, kind)
    if options.plan:
        _plan(console, options, recording, selection, formats, session, network, engine, work)
        return
    exporters = _make_exporters(options, recording, formats, session)
    _work(console, options, recording, selection, kind, exporters, session, network, engine, work)


def _check_output(out: Path, inputs: list[Path]) -> None:
    """Raise ConfigError if results can't be written; nothing is left behind."""
    formats = [(out / name).resolve() for name in FORMATS]
    for path in inputs:
        if any(path.resolve().is_relative_to(folder) for folder in formats):
            raise ConfigError(
                f"the input {str(path)!r} lies where results are written; name another folder for the results"
            )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{str(out)!r} is a file; name a folder for the results")
    existing = next(one for one in (out, *out.absolute().parents) if one.exists())
    probe = existing / f".redepth-{threading.get_native_id()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(f"{str(out)!r} can't be written: {error.strerror}") from None


def _load_networks(
    options: argparse.Namespace, given: dict[str, Any]
) -> tuple[DepthAnything, Engine | None, Any]:
    """Load what is needed: the depth network alone, or both networks if keyframes are refined."""
    from redepth_ros.models.depth_networks import load_depth_network

    if options.keyframes == "none":
        network = load_depth_network(options.model, device=options.device, precision=options.precision)
        return network, None, None
    engine = _engine_options(options).load()
    return engine.model, engine, replace_settings(engine.preset(options.preset), given)


def _engine_options(options: argparse.Namespace) -> Any:
    from redepth_ros.cli.process.refinement import EngineOptions

    return EngineOptions(
        options.model, options.prior, options.vae, options.captioner, options.device, options.precision
    )


def _session(recording: Recording, settings: DepthSettings, metric: bool, kind: str) -> Session:
    from redepth_ros.core.metric.scale import Scale

    known = metric or kind != "none" or settings.fixed_scale(False) != Scale()
    facts = dict(recording.facts)
    unit = "m" if known else "an unknown unit (relative model without anchors or --scale)"
    return Session(
        recording.description,
        unit,
        recording.rate,
        has_cameras=not facts.get("calibration", "none").startswith("none"),
        has_poses="poses" in facts or facts.get("transforms", "none") != "none",
    )


def _make_exporters(
    options: argparse.Namespace, recording: Recording, formats: tuple[str, ...], session: Session
) -> list[Exporter]:
    from redepth_ros.exports.bag import BagExporter, RawTopic
    from redepth_ros.exports.images import ImagesExporter
    from redepth_ros.recordings.raw_bag import read_raw_messages, read_raw_topics

    exporters: list[Exporter] = []
    for name in formats:
        folder = options.out / name
        if name == "images":
            exporters.append(ImagesExporter(folder, session, float32=options.float32, exr=options.exr))
        elif name == "bag" and recording.bag is not None:
            topics = [RawTopic(**topic) for topic in read_raw_topics(recording.bag, options.only)]
            messages = partial(_raw_messages, topics, recording.bag, read_raw_messages)
            exporters.append(
                BagExporter(folder, session, topics=topics, messages=messages, prefix=options.namespace)
            )
        elif name == "bag":
            exporters.append(BagExporter(folder, session, prefix=options.namespace, with_images=True))
        else:
            exporters.append(FORMATS[name](folder, session))
    return exporters


def _raw_messages(topics: list[Any], bag: Any, read: Any, start: int) -> Iterator[tuple[Any, int, bytes]]:
    by_name = {topic.name: topic for topic in topics}
    for name, time_, data in read(bag, list(by_name), start):
        yield by_name[name], time_, data


def _plan(
    console: Console,
    options: argparse.Namespace,
    recording: Recording,
    selection: Selection,
    formats: tuple[str, ...],
    session: Session,
    network: DepthAnything,
    engine: Engine | None,
    work: Work,
) -> None:
    from redepth_ros.cli.process.journal import count_done
    from redepth_ros.cli.process.plan import count_frames, measure_speed, print_plan

    _make_exporters(options, recording, formats, session)  # raises what would be raised
    actions = [
        ("depth", f"{network.name} on {network.device}, in {session.unit}"),
        ("keyframes", options.keyframes + (f", refined with {options.prior}" if engine else "")),
        ("formats", ", ".join(f"{options.out / name}" for name in formats)),
    ]
    frames = count_frames(recording, selection)
    estimate = measure_speed(recording, selection, network, engine, work)
    print_plan(
        console,
        recording,
        frames,
        count_done(options.out),
        actions,
        estimate,
        work,
        max(1, options.workers),
    )


def _work(
    console: Console,
    options: argparse.Namespace,
    recording: Recording,
    selection: Selection,
    kind: str,
    exporters: list[Exporter],
    session: Session,
    network: DepthAnything,
    engine: Engine | None,
    work: Work,
) -> None:
    from redepth_ros.cli.process.bar import BarProgress
    from redepth_ros.cli.process.journal import Journal
    from redepth_ros.cli.process.pipeline import Pipeline
    from redepth_ros.cli.process.plan import count_frames
    from redepth_ros.cli.process.recording_scale import RecordingScale
    from redepth_ros.cli.process.refinement import LocalRefinement, Refinement, WorkerRefinement

    names = tuple(exporter.name for exporter in exporters)
    journal = Journal(
        options.out, fingerprint(options, names, work), overwrite=options.overwrite, formats=tuple(FORMATS)
    )
    stop, started = threading.Event(), time.monotonic()
    tracker = RecordingScale(work.settings, network.metric, kind)
    done = len(journal.records)
    with (
        BarProgress(console, count_frames(recording, selection), done) as progress,
        _interrupts(stop, console),
    ):
        refinement: Refinement | None = None
        if engine is not None and options.workers > 1:
            devices = _devices(options.device)
            refinement = WorkerRefinement(_engine_options(options), options.workers, devices, stop.is_set)
        elif engine is not None:
            refinement = LocalRefinement(engine, partial(_keep_refining, progress, stop))
        pipeline = Pipeline(recording, network, tracker, work, exporters, journal, progress, stop)
        try:
            summary = pipeline.run(selection, refinement)
        finally:
            if refinement is not None:
                refinement.close()
    records, seconds = journal.ordered(), time.monotonic() - started
    if summary.error is None:
        for exporter in exporters:
            exporter.finish(records, not summary.interrupted)
        write_table(options.out / "frames.csv", records)
        report = make_report(options, records, summary, network, engine, work, seconds)
        write_json(options.out / "report.json", report)
    journal.close()
    print_summary(console, records, summary, options.out, seconds)
    raise_failures(records, summary)


def _keep_refining(progress: Any, stop: threading.Event, share: float) -> bool:
    progress.refining("", share)
    return not stop.is_set()


def _devices(device: str) -> tuple[str, ...]:
    """Return the devices that workers share."""
    import torch

    if device in ("auto", "cuda") and torch.cuda.device_count() > 1:
        return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))
    return (device,)


@contextmanager
def _interrupts(stop: threading.Event, console: Console) -> Iterator[None]:
    """Let the first Ctrl-C set `stop`, and the second one end at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        console.print("ends after the frame at work; the same command goes on later", style="yellow")

    former = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
