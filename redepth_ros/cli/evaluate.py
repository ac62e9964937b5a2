"""`redepth evaluate`: errors of fast, refined and anchored depth on pictures with measured depth."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from redepth_ros.cli.datasets import FARTHEST, Pair
from redepth_ros.viz.figures import draw_evaluation
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.errors import AnchorError, ConfigError, RedepthError
from redepth_ros.core.camera import Intrinsics
from redepth_ros.core.metrics import align_depth, bootstrap_mean, boundary_f1, depth_errors, normal_error
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.metric.scale import Scale, disparity_of
from redepth_ros.models.engine import Engine

__all__ = ["MEASURES", "draw_anchors", "evaluate"]

MEASURES = {
    "abs_rel": "AbsRel", "rmse": "RMSE (m)", "log10": "log10", "silog": "SILog", "delta1": "delta 1",
    "delta2": "delta 2", "delta3": "delta 3", "boundary_f1": "edge F1", "normal_angle": "normals (deg)",
}  # fmt: skip
"""What is measured, and how it is called in tables."""

MOST_PIXELS = 2_000_000
"""Larger pictures are made smaller first."""

RANGE_NOISE, OUTLIERS = 0.01, 0.1
"""Of the anchors that are drawn: noise over the depth, and the share that is anything."""

EXPLANATION = (
    "fast and refined: scale and shift fitted to all of the measured depth (Re-Depth Anything's evaluation). "
    "fast + anchors: scale and shift fitted to the anchors only. anchored: the refinement was given the "
    f"anchors. Anchors carry {100 * RANGE_NOISE:g} % noise, {100 * OUTLIERS:g} % of them are anything; "
    "errors are those of all other pixels."
)

Map = NDArray[np.float32]


@dataclass(frozen=True)
class _Views:
    """A pair as it is evaluated; maps are (H, W)."""

    image: NDArray[np.uint8]
    truth: Map
    intrinsics: Intrinsics | None
    metric: bool
    sharp: bool


def evaluate(
    pairs: list[Pair], engine: Engine, settings: RefineSettings, out: Path, *,
    anchors: int = 200, longer_side: int = 0,
) -> dict[str, dict[str, tuple[float, float, float]]]:  # fmt: skip
    """Evaluate each pair and write what came of it to a folder.

    results.jsonl grows by a line for each picture: called again with the same settings, what is there
    is not done again. Pictures that can't be used are named and left out. At the end results.csv,
    summary.json and report.html are written.

    Args:
        pairs: see `pairs.read_pairs`.
        engine: the networks.
        settings: of the refinement; their seed also draws the anchors.
        out: folder, made where it is not there.
        anchors: how many random pixels are taken as measured; 0 leaves out what needs them.
        longer_side: pixels at which the network sees the pictures; 0 is the model's own.

    Returns:
        By method and measure the mean over pictures and its 95 % bootstrap interval.

    Raises:
        ConfigError: the folder has results of other settings.
    """
    console = Console()
    asked = {
        "model": engine.model.name, "prior": engine.prior.name, "anchors": anchors,
        "longer_side": longer_side, "settings": dataclasses.asdict(settings),
    }  # fmt: skip
    done = _resume(out, asked)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
               TextColumn("{task.fields[state]}"))  # fmt: skip
    with Progress(*columns, console=console) as progress, (out / "results.jsonl").open("a") as lines:
        task = progress.add_task("pictures", total=len(pairs), state="")
        for pair in pairs:
            if done.get(pair.name, {}).get("folder") != str(pair.folder):
                progress.update(task, state=pair.name)
                try:
                    done[pair.name] = _evaluate_pair(pair, engine, settings, out, anchors, longer_side)
                    done[pair.name]["folder"] = str(pair.folder)
                except RedepthError as error:  # of a file, which may be whole the next time
                    done[pair.name] = {"name": pair.name, "error": str(error)}
                else:
                    lines.write(json.dumps(done[pair.name]) + "\n")
                    lines.flush()
            progress.advance(task)
    rows = [done[pair.name] for pair in pairs]
    whole = [row for row in rows if "error" not in row]
    for row in rows:
        if "error" in row:
            console.print(f"{row['name']} is left out: {row['error']}")
        elif row["refused"]:
            console.print(f"{row['name']} counts without anchors: {row['refused']}")
    if not whole:
        raise ConfigError(f"none of the {len(rows)} pictures could be evaluated, for the reasons above")
    # Of the same pictures in every column, or they could not be compared.
    counted = [row for row in whole if not row["refused"]] or whole
    summary = {
        method: {
            key: bootstrap_mean(values) for key in MEASURES
            if np.isfinite(values := np.array([row["errors"][method][key] for row in counted], float)).any()
        }
        for method in counted[0]["errors"]
    }  # fmt: skip
    _write_csv(out / "results.csv", whole)
    (out / "summary.json").write_text(
        json.dumps({"asked": asked, "pictures": len(counted), "summary": summary}, indent=1)
    )
    _write_report(out / "report.html", asked, whole, len(counted), summary)
    _print(console, len(counted), summary)
    console.print(f"written to {out}: report.html, results.csv, summary.json")
    return summary


def _resume(out: Path, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is there already, by the pictures' names."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheets").mkdir(exist_ok=True)
    known = out / "asked.json"
    if known.exists() and json.loads(known.read_text()) != json.loads(json.dumps(asked)):
        raise ConfigError(
            f"{str(out)!r} has the results of other settings, see {known}: name another folder, or remove it"
        )
    known.write_text(json.dumps(asked, indent=1))
    results = out / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    # One that was being written when the power went is done again.
    whole = [line for line in lines if line.endswith("\n")]
    results.write_text("".join(whole))
    return {row["name"]: row for row in map(json.loads, whole)}


def _evaluate_pair(
    pair: Pair, engine: Engine, settings: RefineSettings, out: Path, count: int, longer_side: int
) -> dict[str, Any]:
    """Errors of every method on one pair; or why there are none."""
    views = _views_of(pair)
    valid = np.isfinite(views.truth)
    if valid.sum() < max(2, 2 * count):
        return {"name": pair.name, "error": f"{valid.sum()} measured pixels are too few"}
    plain = _refine(engine, views, settings, longer_side, None)
    depths, others, refused = {}, valid, ""
    try:
        if count:
            anchors = draw_anchors(views.truth, count, settings.seed)
            others = valid & np.isnan(anchors.image())
            anchored = _refine(engine, views, settings, longer_side, anchors)
            assert anchored.scale is not None
            depths["fast + anchors"] = _metric(engine, plain.fast, anchored.scale, views)
            depths["anchored"] = _metric(engine, anchored.refined, anchored.scale, views)
    except AnchorError as error:
        refused = str(error)
    depths = {
        "fast": _aligned(engine, plain.fast, views, others),
        "refined": _aligned(engine, plain.refined, views, others),
        **depths,
    }
    sheet = f"{re.sub(r'[^A-Za-z0-9._-]', '_', pair.name)}.png"
    draw_evaluation(out / "sheets" / sheet, views.image, views.truth, depths)
    errors = {name: _errors(depth, views, others) for name, depth in depths.items()}
    outcome = plain.outcome.name
    return {"name": pair.name, "sheet": sheet, "outcome": outcome, "errors": errors, "refused": refused}


def _views_of(pair: Pair) -> _Views:
    image, truth, camera = pair.image(), pair.depth(), pair.intrinsics
    if image.shape[:2] != truth.shape:
        raise ConfigError(
            f"{pair.name}: the picture has {image.shape[1]}x{image.shape[0]} pixels, its depth "
            f"{truth.shape[1]}x{truth.shape[0]}; they must be of one size"
        )
    step = int(np.ceil(np.sqrt(truth.size / MOST_PIXELS)))
    if step > 1:
        truth = truth[::step, ::step]
        image = cv2.resize(image, truth.shape[::-1], interpolation=cv2.INTER_AREA)
        camera = camera.resized(truth.shape[1], truth.shape[0]) if camera else None
    limit = FARTHEST if pair.metric else np.inf
    return _Views(image, np.where(truth < limit, truth, np.float32(np.nan)), camera, pair.metric, pair.sharp)


def draw_anchors(truth: Map, count: int, seed: int) -> Anchors:
    """Random measured pixels with noise, some of which are anything between the nearest and farthest."""
    rng = np.random.default_rng(seed)
    places = rng.choice(np.flatnonzero(np.isfinite(truth)), count, replace=False)
    measured = truth.flat[places] * (1.0 + RANGE_NOISE * rng.standard_normal(count))
    wrong = int(OUTLIERS * count)
    measured[:wrong] = rng.uniform(np.nanmin(truth), np.nanmax(truth), wrong)
    sparse = np.full(truth.size, np.nan)
    sparse[places] = measured
    return anchors_from_depth(sparse.reshape(truth.shape))


def _refine(
    engine: Engine, views: _Views, settings: RefineSettings, longer_side: int, anchors: Anchors | None
) -> Refinement:
    run = engine.start(
        views.image, settings, intrinsics=views.intrinsics, longer_side=longer_side, anchors=anchors
    )
    for _ in run.steps():
        pass
    return run.result()


def _metric(engine: Engine, output: Any, scale: Scale, views: _Views) -> Map:
    """Depth of a network's output at the picture's size, by a scale; the farthest truth bounds it."""
    grown = Engine.full_size(output, *views.truth.shape)
    depth = scale.depth(disparity_of(grown, engine.model.metric)).numpy()
    farthest = np.float32(10.0 * np.nanmax(views.truth))
    return np.where(np.isfinite(depth), np.minimum(depth, farthest), farthest)


def _aligned(engine: Engine, output: Any, views: _Views, measured: NDArray[np.bool_]) -> Map:
    """Depth of a network's output, scale and shift fitted to the measured pixels."""
    grown = disparity_of(Engine.full_size(output, *views.truth.shape), engine.model.metric)
    disparity = grown.nan_to_num(0.0).numpy()
    depth = np.full(views.truth.shape, np.nan, np.float32)
    depth[measured] = align_depth(disparity[measured], views.truth[measured])
    return depth


def _errors(depth: Map, views: _Views, counted: NDArray[np.bool_]) -> dict[str, float | None]:
    """By measure; None where it can't be measured: normals without a calibration, metres without a unit,
    edges by a truth that has none worth the name."""
    truth = np.where(counted, views.truth, np.float32(np.nan))
    found = depth_errors(depth[counted], truth[counted])
    found["boundary_f1"] = boundary_f1(depth, truth) if views.sharp else float("nan")
    if not views.metric:
        found["rmse"] = float("nan")
    camera = views.intrinsics
    found["normal_angle"] = normal_error(depth, truth, camera) if camera else float("nan")
    return {key: found[key] if np.isfinite(found[key]) else None for key in MEASURES}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["picture", "method", *MEASURES])
        for row in rows:
            for method, errors in row["errors"].items():
                writer.writerow([row["name"], method, *(errors[key] for key in MEASURES)])


def _cell(value: tuple[float, float, float] | None) -> str:
    return f"{value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]" if value else "-"


def _print(console: Console, pictures: int, summary: dict[str, Any]) -> None:
    title = f"{pictures} pictures, mean [95 % interval]"
    table = Table("", *summary, title=title)
    for key, name in MEASURES.items():
        table.add_row(name, *(_cell(measures.get(key)) for measures in summary.values()))
    console.print(table)
    console.print(EXPLANATION)


def _write_report(
    path: Path, asked: dict[str, Any], rows: list[dict[str, Any]], pictures: int, summary: dict[str, Any]
) -> None:
    """One file, its pictures within it."""

    def table(head: list[str], body: list[list[str]]) -> str:
        cells = "".join(f"<th>{html.escape(one)}</th>" for one in head)
        lines = "".join(
            "<tr>" + "".join(f"<td>{html.escape(one)}</td>" for one in line) + "</tr>" for line in body
        )
        return f"<table><tr>{cells}</tr>{lines}</table>"

    def encoded(sheet: str) -> str:
        return base64.b64encode((path.parent / "sheets" / sheet).read_bytes()).decode("ascii")

    means = table(["", *summary], [
        [name, *(_cell(measures.get(key)) for measures in summary.values())] for key, name in MEASURES.items()
    ])  # fmt: skip
    parts = [
        f"<h2>{html.escape(row['name'])}</h2>"
        + table(["", "AbsRel", "delta 1"], [
            [method, f"{errors['abs_rel']:.3f}", f"{errors['delta1']:.3f}"]
            for method, errors in row["errors"].items()
        ])
        + (f"<p>Without anchors: {html.escape(row['refused'])}</p>" if row["refused"] else "")
        + f'<img src="data:image/png;base64,{encoded(row["sheet"])}" alt="{html.escape(row["name"])}">'
        for row in rows
    ]  # fmt: skip
    title = f"{asked['model']} with {asked['prior']}: {pictures} pictures"
    style = "body{font-family:sans-serif;margin:2em} td,th{padding:.2em .8em} img{max-width:100%}"
    path.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{style}</style><h1>{html.escape(title)}</h1><p>{EXPLANATION}</p>{means}{''.join(parts)}</html>\n",
        encoding="utf-8",
    )
