"""`redepth evaluate`: errors of all kinds of depth on images with measured depth, beside controls."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from redepth_ros.cli.anchor_patterns import AnchorSettings, sample_anchors
from redepth_ros.cli.datasets import MAX_DEPTH, Pair
from redepth_ros.cli.methods import (
    align_output,
    fit_anchors,
    fuse_output,
    interpolate_depth,
    limit_depth,
    refine_image,
    scale_output,
)
from redepth_ros.cli.progress import progress_bar
from redepth_ros.cli.report import (
    MEASURES,
    Mean,
    Result,
    Summary,
    print_summary,
    read_results,
    write_report,
    write_results,
    write_summary,
)
from redepth_ros.core.camera import PinholeCamera
from redepth_ros.core.errors import AnchorError, ConfigError, RedepthError
from redepth_ros.core.metric.anchors import Anchors
from redepth_ros.core.metric.scale import Scale
from redepth_ros.core.metrics import bootstrap_mean, boundary_f1, depth_errors, normal_error
from redepth_ros.core.refine.result import Refinement
from redepth_ros.core.refine.settings import RefineSettings
from redepth_ros.models.engine import Engine
from redepth_ros.viz.figures import plot_evaluation

__all__ = ["METHODS", "evaluate"]

MAX_PIXELS = 2_000_000
"""Larger images are reduced first."""

METHODS = {
    "fast": "scale and shift of the network's depth fitted to all of the measured depth",
    "refined": "the same of the refined depth (as in Re-Depth Anything)",
    "fast + anchors": "scale and shift of fast depth fitted to the anchors",
    "interpolated": "the anchors alone, without a network: outliers dropped, linear in ln depth",
    "fused": "fast depth fused with the anchors",
    "anchored": "depth refined with the anchors and fused with them",
}
"""What each method is."""

Map = NDArray[np.float32]


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
    anchors: AnchorSettings | None = None,
    input_size: int = 0,
) -> Summary:
    """Evaluate pairs and write the results to a folder.

    results.jsonl gets one line per image. A second call with the same settings skips the images that
    it has. Images that can't be used are skipped. At the end results.csv, summary.csv, summary.json
    and report.html are written.

    Args:
        pairs: see `datasets.read_pairs`.
        engine: the networks.
        settings: of the refinement; their seed also draws the anchors.
        out: folder; made if missing.
        anchors: pixels that are taken as measured; None takes the defaults.
        input_size: longer side of the networks' input, pixels; 0 takes the network's default.

    Returns:
        By method and measure: mean over the images that the method gives a depth of.

    Raises:
        ConfigError: the folder has results of other settings, or no image can be used.
    """
    console, anchors = Console(), anchors or AnchorSettings()
    configuration = {
        "model": engine.model.name,
        "prior": engine.prior.name,
        "dtype": str(engine.model.dtype),
        "anchors": dataclasses.asdict(anchors),
        "input_size": input_size,
        "settings": dataclasses.asdict(settings),
    }
    known = read_results(out, configuration)
    evaluator = _Evaluator(engine, settings, out / "sheets", anchors, input_size)
    with (out / "results.jsonl").open("a") as stream:
        results = _evaluate_all(pairs, evaluator, known, stream, console)
    complete = [result for result in results if "error" not in result]
    _print_exceptions(console, results)
    if not complete:
        raise ConfigError(f"none of the {len(results)} images can be evaluated; the reasons are above")
    summary = _summarize(complete)
    methods, notes = _explain(anchors)
    if common := _compare_common(complete, summary):
        notes = [common, *notes]
    write_results(out / "results.csv", complete)
    write_summary(out / "summary.csv", summary)
    contents = {
        "configuration": configuration,
        "images": len(complete),
        "summary": {
            method: {key: dataclasses.asdict(mean) for key, mean in means.items()}
            for method, means in summary.items()
        },
    }
    (out / "summary.json").write_text(json.dumps(contents, indent=1))
    title = f"{engine.model.name} with {engine.prior.name}: {len(complete)} images"
    write_report(out, title, methods, notes, complete, summary)
    print_summary(console, len(complete), summary)
    console.print(" ".join([*notes, *(f"{name}: {text}." for name, text in methods.items())]))
    console.print(f"written to {out}: report.html, results.csv, summary.csv, summary.json")
    return summary


def _compare_common(results: list[Result], summary: Summary) -> str:
    """Compare the methods over the images that all of them have; empty if these are all images, or none."""
    common = [result["errors"] for result in results if set(summary) <= set(result["errors"])]
    if len(common) in (0, len(results)):
        return ""
    means = [f"{method} {np.mean([one[method]['abs_rel'] for one in common]):.3f}" for method in summary]
    return f"AbsRel over the {len(common)} images that all methods have: {', '.join(means)}."


def _explain(anchors: AnchorSettings) -> tuple[dict[str, str], list[str]]:
    """Return what each method is, and what the anchors are, for the report."""
    if not anchors.count:
        return {name: METHODS[name] for name in ("fast", "refined")}, []
    return METHODS, [f"{anchors.explanation} Errors are those of all other pixels."]


def _print_exceptions(console: Console, results: list[Result]) -> None:
    for result in results:
        if "error" in result:
            console.print(f"{result['name']} is skipped: {result['error']}")
            continue
        for method, reason in result["refused"].items():
            console.print(f"{result['name']} has no {method}: {reason}")


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


def _summarize(results: list[Result]) -> Summary:
    """Average each method over the images that it has; their numbers may differ."""
    tried = {method for result in results for method in (*result["errors"], *result["refused"])}
    summary: Summary = {method: {} for method in METHODS if method in tried}
    for method, means in summary.items():
        found = [result["errors"][method] for result in results if method in result["errors"]]
        for key in MEASURES:
            values = np.array([errors[key] for errors in found], float)
            images = int(np.isfinite(values).sum())
            if images:
                mean, low, high = bootstrap_mean(values)
                means[key] = Mean(mean, (low, high) if images > 1 else None, images)
    return summary


@dataclass(frozen=True)
class _Evaluator:
    """Refines pairs with and without anchors, and measures the errors."""

    engine: Engine
    settings: RefineSettings
    sheets: Path
    """Folder of the figures."""
    anchors: AnchorSettings
    input_size: int

    def evaluate(self, pair: Pair) -> Result:
        """Return the errors of every method on one pair, or why there are none.

        Raises:
            RedepthError: the image can't be used.
        """
        sample = _read_sample(pair)
        valid = np.isfinite(sample.truth)
        if valid.sum() < max(2, 2 * self.anchors.count):
            return {"name": pair.name, "error": f"{valid.sum()} measured pixels are too few"}
        counted, anchors = valid, None
        if self.anchors.count:
            anchors = sample_anchors(
                sample.truth,
                self.anchors.count,
                self.settings.seed,
                pattern=self.anchors.pattern,
                outliers=self.anchors.outliers,
            )
            counted = valid & np.isnan(anchors.to_depth())
        plain = refine_image(
            self.engine, self.settings, sample.image, sample.camera, input_size=self.input_size
        )
        depths = {
            "fast": align_output(plain.fast, plain.metric, sample.truth, counted),
            "refined": align_output(plain.refined, plain.metric, sample.truth, counted),
        }
        refused: dict[str, str] = {}
        if anchors is not None:
            anchored, refused = self._use_anchors(sample, plain, anchors, counted)
            depths |= anchored
        sheet = f"{re.sub(r'[^A-Za-z0-9._-]', '_', pair.name)}.png"
        unit = "m" if sample.metric else "unknown unit"
        truth = np.where(counted, sample.truth, np.float32(np.nan))
        plot_evaluation(self.sheets / sheet, sample.image, truth, depths, unit=unit)
        errors = {name: _errors(depth, sample, counted) for name, depth in depths.items()}
        outcome = plain.outcome.name
        return {"name": pair.name, "sheet": sheet, "outcome": outcome, "errors": errors, "refused": refused}

    def _use_anchors(
        self, sample: _Sample, plain: Refinement, anchors: Anchors, counted: NDArray[np.bool_]
    ) -> tuple[dict[str, Map], dict[str, str]]:
        """Return the depths of the methods that use anchors, and why the others have none."""
        fast, metric = plain.fast, plain.metric
        found: dict[str, Map] = {}
        refused: dict[str, str] = {}
        scale = None
        try:
            scale = fit_anchors(fast, metric, anchors)
            found["fast + anchors"] = scale_output(fast, metric, scale)
        except AnchorError as error:
            refused["fast + anchors"] = str(error)
        try:
            found["anchored"] = self._refine_with_anchors(sample, anchors, scale)
        except AnchorError as error:
            refused["anchored"] = str(error)
        found["interpolated"] = interpolate_depth(anchors)
        try:
            found["fused"] = fuse_output(fast, metric, anchors, scale, sample.image)
        except AnchorError as error:
            refused["fused"] = str(error)
        depths = {name: limit_depth(found[name], sample.truth) for name in METHODS if name in found}
        return depths, refused

    def _refine_with_anchors(self, sample: _Sample, anchors: Anchors, scale: Scale | None) -> Map:
        refined = refine_image(
            self.engine,
            self.settings,
            sample.image,
            sample.camera,
            input_size=self.input_size,
            anchors=anchors,
            scale=scale,
        )
        # With anchors, the standard deviation needs no assumption.
        return refined.scaled(scale or Scale(), 0.0).depth.numpy()


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


def _errors(depth: Map, sample: _Sample, counted: NDArray[np.bool_]) -> dict[str, float | None]:
    """Measure errors; None for normals without a camera, metres without a unit, edges without sharp truth."""
    truth = np.where(counted, sample.truth, np.float32(np.nan))
    errors = depth_errors(depth[counted], truth[counted])
    errors["boundary_f1"] = boundary_f1(depth, truth) if sample.sharp else float("nan")
    if not sample.metric:
        errors["rmse"] = float("nan")
    errors["normal_angle"] = normal_error(depth, truth, sample.camera) if sample.camera else float("nan")
    return {key: errors[key] if np.isfinite(errors[key]) else None for key in MEASURES}
