"""Reports of `redepth evaluate`: a table in the terminal, a CSV file and an HTML file."""

from __future__ import annotations

import base64
import csv
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, select_autoescape
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

__all__ = ["MEASURES", "print_summary", "write_report", "write_results"]

MEASURES = {
    "abs_rel": "AbsRel",
    "rmse": "RMSE (m)",
    "log10": "log10",
    "silog": "SILog",
    "delta1": "delta 1",
    "delta2": "delta 2",
    "delta3": "delta 3",
    "boundary_f1": "edge F1",
    "normal_angle": "normals (deg)",
}
"""Measures of the evaluation, with their titles in tables."""

Summary = dict[str, dict[str, tuple[float, float, float]]]
"""By method and measure: mean, and the ends of its interval."""


def print_summary(console: Console, images: int, summary: Summary) -> None:
    """Print the means as a table of 80 columns."""
    table = Table("", *summary, title=f"{images} images, mean and 95 % interval", box=SIMPLE)
    for key, title in MEASURES.items():
        table.add_row(title, *(_format(measures.get(key), "\n") for measures in summary.values()))
    console.print(table)


def write_results(path: Path, results: list[dict[str, Any]]) -> None:
    """Write a CSV file with a row for each image and method."""
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "method", *MEASURES])
        for result in results:
            for method, errors in result["errors"].items():
                writer.writerow([result["name"], method, *(errors[key] for key in MEASURES)])


def write_report(
    out: Path, title: str, explanation: str, results: list[dict[str, Any]], summary: Summary
) -> None:
    """Write report.html with all figures embedded, from the template report.html."""
    environment = Environment(loader=PackageLoader("redepth_ros.cli"), autoescape=select_autoescape())
    figures = {
        result["name"]: base64.b64encode((out / "sheets" / result["sheet"]).read_bytes()).decode("ascii")
        for result in results
    }
    page = environment.get_template("report.html").render(
        title=title,
        explanation=explanation,
        measures=MEASURES,
        summary=summary,
        results=results,
        figures=figures,
        interval=_format,
    )
    (out / "report.html").write_text(page, encoding="utf-8")


def _format(value: tuple[float, float, float] | None, separator: str = "; ") -> str:
    if value is None:
        return "-"
    mean, low, high = value
    digits = 3 if high < 10.0 else 1
    return f"{mean:.{digits}f}{separator}{low:.{digits}f}-{high:.{digits}f}"
