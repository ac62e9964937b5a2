"""`redepth evaluate`: errors of fast, refined and anchored depth on images with measured depth."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from redepth_ros.cli.datasets import MAX_DEPTH, Pair
from redepth_ros.cli.progress import progress_bar
from redepth_ros.cli.report import MEASURES, print_summary, write_report, write_results
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, RedepthError
from redepth_ros.core.metric.anchors import Anchors, anchors_from_depth
from redepth_ros.core.metric.scale import disparity_from_output
from redepth_ros.core.metrics import align_depth, bootstrap_mean, boundary_f1, depth_errors, normal_error
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine
from redepth_ros.viz.figures import plot_evaluation

__all__ = ["RANGE_NOISE", "OUTLIERS", "evaluate", "sample_anchors"]

MAX_PIXELS = 2_000_000
"""Larger images are reduced first."""

RANGE_NOISE, OUTLIERS = 0.01, 0.1
"""Of the sampled anchors: relative noise, and the share that have a random depth."""

EXPLANATION = (
    "fast and refined: scale and shift fitted to all of the measured depth (as in Re-Depth Anything). "
    "fast + anchors: scale and shift fitted to the anchors only. anchored: refined with the anchors. "
    f"Anchors have {100 * RANGE_NOISE:g} % noise, and {100 * OUTLIERS:g} % of them a random depth; errors "
    "are those of all other pixels."
)

Map = NDArray[np.float32]
Result = dict[str, Any]
"""A line of results.jsonl."""


@dataclass(frozen=True)
class _Sample:
    """A pair as it is evaluated; maps are (H, W)."""

    name: str
    image: NDArray[np.uint8]
    truth: Map
    camera: PinholeCamera | None
    metric: bool
    sharp: bool


def evaluate(
    pairs: list[Pair],
    engine: Engine,
    settings: RefineSettings,
    out: Path,
    *,
    anchors: int = 200,
    input_size: int = 0,
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Evaluate pairs and write the results to a folder.

    results.jsonl gets one line per image. A second call with the same settings skips the images that
    it has. Images that can't be used are skipped. At the end results.csv, summary.json and
    report.html are written.

    Args:
        pairs: see `datasets.read_pairs`.
        engine: the networks.
        settings: of the refinement; their seed also draws the anchors.
        out: folder; made if missing.
        anchors: number of random pixels that are taken as measured; 0 leaves out anchored results.
        input_size: longer side of the networks' input, pixels; 0 takes the network's default.

    Returns:
        By method and measure: mean over the images, and its 95 % bootstrap interval.

    Raises:
        ConfigError: the folder has results of other settings, or no image can be used.
    """
    console = Console()
    configuration = {
        "model": engine.model.name,
        "prior": engine.prior.name,
        "dtype": str(engine.model.dtype),
        "anchors": anchors,
        "input_size": input_size,
        "settings": dataclasses.asdict(settings),
    }
    known = _read_results(out, configuration)
    evaluator = _Evaluator(engine, settings, out / "sheets", anchors, input_size)
    with (out / "results.jsonl").open("a") as stream:
        results = _evaluate_all(pairs, evaluator, known, stream, console)
    complete = [result for result in results if "error" not in result]
    _print_exceptions(console, results)
    if not complete:
        raise ConfigError(f"none of the {len(results)} images can be evaluated; the reasons are above")
    # All columns cover the same images, otherwise they could not be compared.
    counted = [result for result in complete if not result["refused"]] or complete
    summary = _summarize(counted)
    write_results(out / "results.csv", complete)
    contents = {"configuration": configuration, "images": len(counted), "summary": summary}
    (out / "summary.json").write_text(json.dumps(contents, indent=1))
    title = f"{engine.model.name} with {engine.prior.name}: {len(counted)} images"
    write_report(out, title, EXPLANATION, complete, summary)
    print_summary(console, len(counted), summary)
    console.print(EXPLANATION)
    console.print(f"written to {out}: report.html, results.csv, summary.json")
    return summary


def _print_exceptions(console: Console, results: list[Result]) -> None:
    for result in results:
        if "error" in result:
            console.print(f"{result['name']} is skipped: {result['error']}")
        elif result["refused"]:
            console.print(f"{result['name']} has no anchored results: {result['refused']}")


def _read_results(out: Path, configuration: dict[str, Any]) -> dict[str, Result]:
    """Read the results of an earlier call, by the images' names."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "sheets").mkdir(exist_ok=True)
    stored = out / "configuration.json"
    if stored.exists() and json.loads(stored.read_text()) != json.loads(json.dumps(configuration)):
        raise ConfigError(
            f"{str(out)!r} has results of other settings, see {stored}: name another folder, or remove it"
        )
    stored.write_text(json.dumps(configuration, indent=1))
    path = out / "results.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    # A line without its end was being written when the earlier call was killed.
    complete = [line for line in lines if line.endswith("\n")]
    path.write_text("".join(complete))
    return {result["name"]: result for result in map(json.loads, complete)}


def _evaluate_all(
    pairs: list[Pair], evaluator: _Evaluator, known: dict[str, Result], stream: TextIO, console: Console
) -> list[Result]:
    """Evaluate the pairs that are not known, and write a line for each."""
    results = []
    with progress_bar(console) as progress:
        task = progress.add_task("images", total=len(pairs), note="")
        for number, pair in enumerate(pairs, 1):
            result = known.get(pair.name, {})
            if result.get("folder") != str(pair.folder):
                progress.update(task, note=f"{number} of {len(pairs)}: {pair.name}")
                try:
                    result = {**evaluator.evaluate(pair), "folder": str(pair.folder)}
                except RedepthError as error:  # the file may be repaired before the next call
                    result = {"name": pair.name, "error": str(error)}
                else:
                    stream.write(json.dumps(result) + "\n")
                    stream.flush()
            results.append(result)
            progress.advance(task)
    return results


def _summarize(results: list[Result]) -> dict[str, dict[str, tuple[float, float, float]]]:
    summary: dict[str, dict[str, tuple[float, float, float]]] = {}
    for method in results[0]["errors"]:
        summary[method] = {}
        for key in MEASURES:
            values = np.array([result["errors"][method][key] for result in results], float)
            if np.isfinite(values).any():
                summary[method][key] = bootstrap_mean(values)
    return summary


@dataclass(frozen=True)
class _Evaluator:
    """Refines pairs with and without anchors, and measures the errors."""

    engine: Engine
    settings: RefineSettings
    sheets: Path
    """Folder of the figures."""
    anchors: int
    input_size: int

    def evaluate(self, pair: Pair) -> Result:
        """Return the errors of every method on one pair, or why there are none.

        Raises:
            RedepthError: the image can't be used.
        """
        sample = _read_sample(pair)
        valid = np.isfinite(sample.truth)
        if valid.sum() < max(2, 2 * self.anchors):
            return {"name": pair.name, "error": f"{valid.sum()} measured pixels are too few"}
        plain = self._refine(sample, None)
        anchored, counted, refused = {}, valid, ""
        try:
            if self.anchors:
                anchors = sample_anchors(sample.truth, self.anchors, self.settings.seed)
                counted = valid & np.isnan(anchors.to_depth())
                refined = self._refine(sample, anchors)
                assert refined.scale is not None
                anchored = {
                    "fast + anchors": _scaled_depth(plain.fast, refined, sample),
                    "anchored": _scaled_depth(refined.refined, refined, sample),
                }
        except AnchorError as error:
            refused = str(error)
        depths = {
            "fast": _aligned_depth(plain.fast, plain.metric, sample, counted),
            "refined": _aligned_depth(plain.refined, plain.metric, sample, counted),
            **anchored,
        }
        sheet = f"{re.sub(r'[^A-Za-z0-9._-]', '_', pair.name)}.png"
        unit = "m" if sample.metric else "unknown unit"
        plot_evaluation(self.sheets / sheet, sample.image, sample.truth, depths, unit=unit)
        errors = {name: _errors(depth, sample, counted) for name, depth in depths.items()}
        outcome = plain.outcome.name
        return {"name": pair.name, "sheet": sheet, "outcome": outcome, "errors": errors, "refused": refused}

    def _refine(self, sample: _Sample, anchors: Anchors | None) -> Refinement:
        """Refine an image; the maps are at its size."""
        run = self.engine.start(
            sample.image, self.settings, camera=sample.camera, input_size=self.input_size, anchors=anchors
        )
        for _ in run.steps():
            pass
        return run.result().at_size(*sample.truth.shape)


def _read_sample(pair: Pair) -> _Sample:
    image, truth, camera = pair.image(), pair.depth(), pair.camera
    if image.shape[:2] != truth.shape:
        raise ConfigError(
            f"{pair.name}: the image has {image.shape[1]}x{image.shape[0]} pixels, its depth "
            f"{truth.shape[1]}x{truth.shape[0]}; they must be equal"
        )
    step = int(np.ceil(np.sqrt(truth.size / MAX_PIXELS)))
    if step > 1:
        truth = truth[::step, ::step]
        image = np.asarray(cv2.resize(image, truth.shape[::-1], interpolation=cv2.INTER_AREA))
        camera = camera.resized(truth.shape[1], truth.shape[0]) if camera else None
    limit = MAX_DEPTH if pair.metric else np.inf
    truth = np.where(truth < limit, truth, np.float32(np.nan))
    return _Sample(pair.name, image, truth, camera, pair.metric, pair.sharp)


def sample_anchors(truth: Map, count: int, seed: int) -> Anchors:
    """Draw measured pixels (H, W) as anchors, with noise and outliers within the range of the depth."""
    rng = np.random.default_rng(seed)
    places = rng.choice(np.flatnonzero(np.isfinite(truth)), count, replace=False)
    measured = truth.flat[places] * (1.0 + RANGE_NOISE * rng.standard_normal(count))
    outliers = int(OUTLIERS * count)
    measured[:outliers] = rng.uniform(np.nanmin(truth), np.nanmax(truth), outliers)
    sparse = np.full(truth.size, np.nan)
    sparse[places] = measured
    return anchors_from_depth(sparse.reshape(truth.shape))


def _scaled_depth(output: Any, refined: Refinement, sample: _Sample) -> Map:
    """Return the depth of a network's output (H, W) by the fitted scale, with an upper limit."""
    assert refined.scale is not None
    depth = refined.scale.depth(disparity_from_output(output, refined.metric)).numpy()
    limit = np.float32(10.0 * np.nanmax(sample.truth))
    return np.where(np.isfinite(depth), np.minimum(depth, limit), limit)


def _aligned_depth(output: Any, metric: bool, sample: _Sample, counted: NDArray[np.bool_]) -> Map:
    """Return the depth of a network's output (H, W), scale and shift fitted to the counted pixels."""
    disparity = disparity_from_output(output, metric).nan_to_num(0.0).numpy()
    depth = np.full(sample.truth.shape, np.nan, np.float32)
    depth[counted] = align_depth(disparity[counted], sample.truth[counted])
    return depth


def _errors(depth: Map, sample: _Sample, counted: NDArray[np.bool_]) -> dict[str, float | None]:
    """Measure errors; None for normals without a camera, metres without a unit, edges without sharp truth."""
    truth = np.where(counted, sample.truth, np.float32(np.nan))
    errors = depth_errors(depth[counted], truth[counted])
    errors["boundary_f1"] = boundary_f1(depth, truth) if sample.sharp else float("nan")
    if not sample.metric:
        errors["rmse"] = float("nan")
    errors["normal_angle"] = normal_error(depth, truth, sample.camera) if sample.camera else float("nan")
    return {key: errors[key] if np.isfinite(errors[key]) else None for key in MEASURES}
