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
from redepth_ros.cli.process.work import Work
from redepth_ros.cli.progress import ConsoleLog
from redepth_ros.cli.workers.networks import EngineOptions
from redepth_ros.cli.workers.open import open_pool
from redepth_ros.cli.workers.pool import Pool, SerialPool
from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.exporter import Exporter, Session
from redepth_ros.exports.files import write_json, write_table
from redepth_ros.exports.formats import FORMATS
from redepth_ros.nodes.settings import DepthSettings
from redepth_ros.recordings.recording import Recording, Selection

if TYPE_CHECKING:
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
    stop = threading.Event()
    with _open_pool(options, stop) as pool:
        network = pool.engine.model if isinstance(pool, SerialPool) else _load_network(options)
        network = network.with_runtime(settings.runtime, ConsoleLog(console))
        work = _make_work(options, settings, pool, given)
        session = _session(recording, settings, network, kind)
        if options.plan:
            engine = pool.engine if isinstance(pool, SerialPool) else None
            _plan(console, options, recording, selection, formats, session, network, engine, work)
            return
        exporters = _make_exporters(options, recording, formats, session)
        _work(console, options, recording, selection, kind, exporters, network, pool, work, stop)


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


@contextmanager
def _open_pool(options: argparse.Namespace, stop: threading.Event) -> Iterator[Pool | None]:
    """Open the pool that refines keyframes; None if there are none."""
    if options.keyframes == "none":
        given = [name for name in ("workers", "ray") if getattr(options, name) is not None]
        if given:
            raise ConfigError(
                f"--{' and --'.join(given)}: workers refine keyframes, and --keyframes is none; name the "
                "keyframes, or leave the option out: fast depth is computed in one process"
            )
        yield None
        return
    # The plan measures the time of a refinement here.
    pool = SerialPool(EngineOptions.of(options).load()) if options.plan else open_pool(options, stop.is_set)
    with pool:
        yield pool


def _load_network(options: argparse.Namespace) -> DepthAnything:
    from redepth_ros.models.depth_networks import load_depth_network

    return load_depth_network(options.model, device=options.device, precision=options.precision)


def _make_work(
    options: argparse.Namespace, settings: DepthSettings, pool: Pool | None, given: dict[str, Any]
) -> Work:
    each = dataclasses.replace(settings, keyframe_min_interval=0.0)
    return Work(
        settings,
        (each if options.keyframes == "all" else settings).keyframe_selector(),
        options.keyframes,
        options.input_size,
        refine_settings=replace_settings(pool.facts.preset(options.preset), given) if pool else None,
        prompt=options.prompt,
    )


def _session(recording: Recording, settings: DepthSettings, network: DepthAnything, kind: str) -> Session:
    from redepth_ros.core.metric.scale import Scale

    facts = dict(recording.facts)
    has_cameras = not facts.get("calibration", "none").startswith("none")
    source = network.scale_source
    self_scaled = network.metric or source == "image" or (source == "calibration" and has_cameras)
    known = self_scaled or kind != "none" or settings.fixed_scale(False) != Scale()
    unit = "m" if known else "an unknown unit (relative model without anchors or --scale)"
    return Session(
        recording.description,
        unit,
        recording.rate,
        has_cameras=has_cameras,
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
        options.workers or 1,
    )


def _work(
    console: Console,
    options: argparse.Namespace,
    recording: Recording,
    selection: Selection,
    kind: str,
    exporters: list[Exporter],
    network: DepthAnything,
    pool: Pool | None,
    work: Work,
    stop: threading.Event,
) -> None:
    from redepth_ros.cli.process.bar import BarProgress
    from redepth_ros.cli.process.journal import Journal
    from redepth_ros.cli.process.pipeline import Pipeline
    from redepth_ros.cli.process.plan import count_frames
    from redepth_ros.cli.process.recording_scale import RecordingScale
    from redepth_ros.models.prompt_depth_anything import takes_prompt

    names = tuple(exporter.name for exporter in exporters)
    journal = Journal(
        options.out, fingerprint(options, names, work), overwrite=options.overwrite, formats=tuple(FORMATS)
    )
    started = time.monotonic()
    metric = network.metric or (takes_prompt(network) and kind == "anchors")
    tracker = RecordingScale(work.settings, metric, kind)
    done = len(journal.records)
    with (
        BarProgress(console, count_frames(recording, selection), done) as progress,
        _interrupts(stop, console),
    ):
        pipeline = Pipeline(recording, network, tracker, work, exporters, journal, progress, stop)
        summary = pipeline.run(selection, pool)
    records, seconds = journal.ordered(), time.monotonic() - started
    if summary.error is None:
        for exporter in exporters:
            exporter.finish(records, not summary.interrupted)
        write_table(options.out / "frames.csv", records)
        report = make_report(options, records, summary, network, pool.facts if pool else None, work, seconds)
        write_json(options.out / "report.json", report)
    journal.close()
    print_summary(console, records, summary, options.out, seconds)
    raise_failures(records, summary)


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
