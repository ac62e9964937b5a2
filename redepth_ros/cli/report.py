"""Reports of `redepth evaluate`: a table in the terminal, CSV files and an HTML file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from redepth_ros.core.errors import ConfigError
from redepth_ros.exports.files import make_folder, write_json, write_text, writing
from redepth_ros.viz.pages import embed_image, render_page

__all__ = [
    "MEASURES",
    "Mean",
    "Result",
    "Summary",
    "print_summary",
    "read_results",
    "write_report",
    "write_results",
    "write_summary",
]

MEASURES = {
    "abs_rel": "AbsRel",
    "rmse": "RMSE (m)",
    "log10": "log10",
    "silog": "SILog",
    "delta1": "delta 1",
    "delta2": "delta 2",
    "delta3": "delta 3",
    "boundary_f1": "edge F1",
    "normal_angle": "normals (°)",
}
"""Measures of the evaluation, with their titles in tables."""


@dataclass(frozen=True)
class Mean:
    """Mean of a measure over images."""

    mean: float
    interval: tuple[float, float] | None
    """95 % bootstrap interval; None of a single image."""
    images: int


Summary = dict[str, dict[str, Mean]]
"""By method and measure."""

Result = dict[str, Any]
"""A line of results.jsonl: the errors of an image."""

RESULT = {"name": str, "folder": str, "sheet": str, "errors": dict, "refused": dict}
"""Fields that every line has, and their types."""


def read_results(out: Path, configuration: dict[str, Any], overwrite: bool = False) -> dict[str, Result]:
    """Read the results of an earlier call, by the images' names; a damaged line is left out.

    Raises:
        ConfigError: the folder has results of other settings and `overwrite` is not given, or other
            files.
    """
    stored = out / "configuration.json"
    if out.is_dir() and any(out.iterdir()) and not stored.exists():
        raise ConfigError(
            f"{str(out)!r} is not empty and holds no results of redepth evaluate; name another folder (--out)"
        )
    other = stored.exists() and _parse(stored.read_bytes()) != json.loads(json.dumps(configuration))
    if other and not overwrite:
        raise ConfigError(
            f"{str(out)!r} has results of other settings, see {stored}: name another folder (--out), or "
            "replace them by --overwrite"
        )
    for folder in (out, out / "sheets"):
        make_folder(folder)
    if overwrite:
        (out / "results.jsonl").unlink(missing_ok=True)
    write_json(stored, configuration)
    path = out / "results.jsonl"
    known = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        result = _parse(line)
        if isinstance(result, dict) and all(
            isinstance(result.get(key), kind) for key, kind in RESULT.items()
        ):
            known[result["name"]] = result
    write_text(path, "".join(json.dumps(result) + "\n" for result in known.values()))
    return known


def _parse(data: bytes) -> Any:
    """Return a JSON document; None for a damaged one, as an abrupt end leaves it."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def print_summary(console: Console, images: int, summary: Summary) -> None:
    """Print the means as a table of 80 columns."""
    title = f"{images} images: mean (number of images), 95 % interval"
    # Six methods fit into 80 columns without lines between them.
    titles = [method.replace(" + ", " +\n") for method in summary]
    table = Table("", *titles, title=title, box=None, padding=(0, 1, 1, 0), pad_edge=False)
    for row in _rows(summary):
        table.add_row(*row)
    console.print(table)


def write_summary(path: Path, summary: Summary) -> None:
    """Write a CSV file with a row for each method and measure."""
    with writing(path), path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["method", "measure", "mean", "low", "high", "images"])
        for method, means in summary.items():
            for key, mean in means.items():
                writer.writerow([method, key, mean.mean, *(mean.interval or ("", "")), mean.images])


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a CSV file with a row for each image and method."""
    with writing(path), path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "method", *MEASURES])
        for result in results:
            for method, errors in result["errors"].items():
                writer.writerow([result["name"], method, *(errors[key] for key in MEASURES)])


def write_report(
    out: Path,
    title: str,
    methods: Mapping[str, str],
    notes: Sequence[str],
    results: list[dict[str, Any]],
    summary: Summary,
) -> None:
    """Write report.html with all figures embedded.

    Args:
        out: folder of the results, with the figures in sheets/.
        title: of the page.
        methods: explanations of the methods.
        notes: paragraphs at the start.
        results: of the images.
        summary: means over them.
    """
    images = [
        {
            "name": result["name"],
            "rows": [
                (method, *(_format_error(errors[key]) for key in MEASURES))
                for method, errors in result["errors"].items()
            ],
            "refused": result["refused"],
            "figure": embed_image(out / "sheets" / result["sheet"]),
        }
        for result in results
    ]
    page = render_page(
        "evaluation.html",
        title=title,
        methods=methods,
        notes=notes,
        measures=MEASURES,
        summary=summary,
        means=list(_rows(summary)),
        images=images,
    )
    write_text(out / "report.html", page)


def _rows(summary: Summary) -> Iterator[tuple[str, ...]]:
    """Yield a row for each measure: its title, and the mean of each method above its interval."""
    for key, title in MEASURES.items():
        yield (title, *(_format(means.get(key)) for means in summary.values()))


def _format(value: Mean | None) -> str:
    if value is None:
        return "-"
    digits = _digits(max((value.mean, *(value.interval or ()))))
    text = f"{value.mean:.{digits}f} ({value.images})"
    if value.interval is None:
        return text
    low, high = (f"{end:.{digits}f}" for end in value.interval)
    return f"{text}\n{_drop_zero(low)}-{_drop_zero(high)}"


def _format_error(error: float | None) -> str:
    return "-" if error is None else f"{error:.{_digits(error)}f}"


def _digits(largest: float) -> int:
    """Return how many digits follow the point in a table."""
    return 3 if largest < 10.0 else 1 if largest < 100.0 else 0


def _drop_zero(number: str) -> str:
    """Shorten "0.250" to ".250"."""
    return number.removeprefix("0") if len(number) > 3 else number
